import pytest
import torch

from frostline.porting.layouts.layout import (
    SAME,
    TRANSPOSED,
    Move,
    blocks,
    channels_first,
    flipped,
    padded,
    permuted,
    reshaped,
)
from helpers_porting import numbers

LAYOUTS = [
    (SAME, (3, 4)), (TRANSPOSED, (3, 4)), (permuted("a", 3, 2, 0, 1), (2, 3, 4, 5)),
    (blocks("b", 3, (1, 0, 2)), (6, 2)),
    (blocks("b", 4, (0, 2, 3, 1)), (8,)), (flipped("c", 0, 1), (2, 3)), (reshaped("d", (2, 6), (12,)), (2, 6)),
    (TRANSPOSED.then(blocks("b", 3, (2, 0, 1))), (4, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS, ids=lambda value: str(getattr(value, "name", value)))
def test_the_inverse_gives_the_same_bytes(layout, shape):
    tensor = numbers(*shape)
    assert torch.equal(layout.inverse(layout.forward(tensor)), tensor)


def test_blocks_of_gates_change_places():
    assert blocks("gates", 3, (1, 0, 2)).forward(torch.arange(6)).tolist() == [2, 3, 0, 1, 4, 5]


def test_a_move_joins_and_parts_again():
    move = Move("packed", ("q", "k"), (TRANSPOSED, TRANSPOSED))
    parts = (numbers(4, 2), numbers(4, 3))
    made = move.forward(parts, torch.zeros(5, 4))
    assert made.shape == (5, 4)
    assert all(torch.equal(a, b) for a, b in zip(move.inverse(made, parts), parts, strict=True))
    assert move.text() == "(in, out) to (out, in)"


def test_a_constant_needs_no_source():
    move = Move("running_var", constant=1.0)
    assert move.forward((), torch.zeros(3)).tolist() == [1, 1, 1]
    assert move.inverse(torch.ones(3), ()) == ()
    assert move.text() == "constant 1"


def test_what_is_computed_of_several_is_not_given_back():
    from frostline.porting.layouts.layout import SAME, Combine, Move

    move = Move("w", ("a", "b"), (SAME, SAME), combine=Combine("the sum", lambda parts: parts[0] + parts[1]))
    one, other = torch.ones(2), torch.full((2,), 2.0)
    assert torch.equal(move.forward((one, other), one), torch.full((2,), 3.0))
    assert move.inverse(one, (one, other)) == ()
    assert move.text() == "computed, the sum, of: as it is"


def test_what_is_done_with_a_joined_tensor_is_undone_before_it_comes_apart():
    move = Move("weight", ("a", "b"), (SAME, SAME), whole=flipped("mirrored", 0))
    parts = (torch.tensor([1.0, 2.0]), torch.tensor([3.0]))
    value = move.forward(parts, torch.empty(3))
    assert value.tolist() == [3, 2, 1]
    assert all(torch.equal(one, part) for one, part in zip(move.inverse(value, parts), parts, strict=True))
    assert move.text() == "as it is, joined, then mirrored"


def test_zeros_around_numbers():
    layout = padded("zeros", 1, 2)
    assert layout.forward(torch.ones(2)).tolist() == [0, 1, 1, 0, 0]
    assert layout.inverse(layout.forward(torch.ones(2))).tolist() == [1, 1]


def test_channels_come_first_where_the_shape_of_the_module_says_so():
    tensor = torch.rand(4, 5, 3)
    layout = channels_first((4, 5, 3), (3, 4, 5))
    assert torch.equal(layout.forward(tensor), tensor.permute(2, 0, 1))
    assert torch.equal(layout.inverse(layout.forward(tensor)), tensor)
    assert channels_first((4, 4, 4), (4, 4, 4)) is channels_first((3,), (3,)) is channels_first((4, 5), (5, 5))
