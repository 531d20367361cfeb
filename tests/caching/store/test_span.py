"""Rows of several pieces of memory, gathered as if they were one tensor."""

import pytest
import torch

from frostline.caching.store.span import Span

KINDS = {
    "words": (4, torch.float32),
    "bytes": (3, torch.uint8),
    "wide": (2**15 + 1, torch.uint8),
    "none": (0, torch.int8),
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_gathered_from_where_they_lie_and_empty_parts_have_none(name):
    width, dtype = KINDS[name]
    whole = (torch.rand(12, width) * 99).to(dtype)
    parts = [whole[:5].clone(), whole[:0].clone(), whole[5:].clone()]
    span = Span("x", parts)
    places = torch.tensor([[2, 0, 2, 0], [6, 4, 0, 0]])
    assert torch.equal(span.gather(span.starts(*places)), whole[[11, 4, 5, 0]])
