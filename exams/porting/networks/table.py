"""All counterparts in one table."""

from __future__ import annotations

from . import convolutions, images, sequences, small

COUNTERPARTS = convolutions.COUNTERPARTS | images.COUNTERPARTS | sequences.COUNTERPARTS | small.COUNTERPARTS
