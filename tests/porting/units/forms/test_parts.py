import torch

from frostline.porting.units.forms.parts import part, row, rows, under
from helpers_porting import numbers, source_of

(WHOLE,) = source_of("torch", {"a": {"weight": numbers(4, 3)}}).tensors


def test_parts_say_where_they_lie():
    for made, shape, name in ((row(WHOLE, 1), (3,), "a/weight[1]"), (rows(WHOLE, 1, 3), (2, 3), "a/weight[1:3]")):
        assert (made.shape, made.name, tuple(made.load().shape)) == (shape, name, shape)
    assert torch.equal(part(WHOLE, ".T", (3, 4), lambda whole: whole.T).load(), numbers(4, 3).T)


def test_names_below_an_empty_one():
    assert (under("a", "b"), under("", "b"), under("a", "")) == ("a/b", "b", "a")
