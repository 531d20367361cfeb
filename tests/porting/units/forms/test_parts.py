from collections import Counter
from dataclasses import replace

import torch

from frostline.porting.units.forms.parts import each_along, part, row, rows, under
from helpers_porting import numbers, source_of

(WHOLE,) = source_of("torch", {"a": {"weight": numbers(4, 3)}}).tensors


def test_parts_say_where_they_lie():
    for made, shape, name in ((row(WHOLE, 1), (3,), "a/weight[1]"), (rows(WHOLE, 1, 3), (2, 3), "a/weight[1:3]")):
        assert (made.shape, made.name, tuple(made.load().shape)) == (shape, name, shape)
    assert torch.equal(part(WHOLE, ".T", (3, 4), lambda whole: whole.T).load(), numbers(4, 3).T)


def test_names_below_an_empty_one():
    assert (under("a", "b"), under("", "b"), under("a", "")) == ("a/b", "b", "a")


def test_a_stack_is_read_once_for_all_of_its_rows_and_anew_for_the_next_round():
    reads = Counter()
    counted = replace(WHOLE, load=lambda: reads.update(["read"]) or WHOLE.load())
    made = each_along(counted, 0)
    assert [one.name for one in made] == [row(WHOLE, index).name for index in range(4)]
    for num_rounds in (1, 2):
        for index, one in enumerate(made):
            assert torch.equal(one.load(), numbers(4, 3)[index])
        assert reads["read"] == num_rounds
    assert torch.equal(made[2].load(), made[2].load())
    assert reads["read"] == 3


def test_entries_along_the_second_axis_are_named_by_it():
    made = each_along(WHOLE, 1)
    assert [one.name for one in made] == [f"{WHOLE.name}[:, {index}]" for index in range(3)]
    assert torch.equal(made[1].load(), numbers(4, 3)[:, 1])
    assert made[1].shape == (4,)
