"""The reasons for pairs of layers, as plans and certificates state them."""

from __future__ import annotations

HINT = "your hint"
SINGLE = "no other layer has this type and shape"
LAST = "no other layer of this type and shape is left"
FLOW = "its place in the flow of values"
SAME_NAME = "the same name"
NAMES = "names"
NAMES_AND_ORDER = "names and order"
NUMBERS_IN_NAMES = "numbers in names"
REMAINING_NAMES = "the remaining names"
PREFIX = "the block of layers with the same name prefix"
ORDER = "order along the flow of values"
# In a partial port the right partner may be absent on either side, so these need a similar name or a matching place.
WEAK = (SINGLE, LAST, REMAINING_NAMES, PREFIX)
