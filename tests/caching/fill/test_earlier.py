import torch

from frostline.caching import Earlier
from helpers_climb import Run, dataset


def test_rows_of_a_higher_line_are_computed_from_those_of_a_lower_one(tmp_path):
    run = Run(tmp_path / "a", dataset())
    run.fill("1")
    climbed = run.climb()
    assert run.data.reads == 16  # the golden rows
    assert (climbed.figures.computed, climbed.figures.reused) == (200, 0)
    assert "computed from those of the line below" in climbed.notes[-1]
    for ours, theirs in zip(climbed, Run(tmp_path / "b", dataset()).fill("3"), strict=True):
        assert torch.equal(ours[0][0], theirs[0][0])
        assert ours[1] == theirs[1]
    again = Run(tmp_path / "a", dataset()).fill("3")  # by anybody, later
    assert (again.figures.computed, again.figures.reused) == (0, 200)


def test_a_lower_line_goes_back_to_its_rows_and_reads_nothing_again(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    back = run.fill("1", Earlier(run.fill("3")))
    assert (back.figures.computed, back.figures.reused, run.data.reads) == (0, 200, 16)
    assert [int(target) for _, target in back] == [int(target) for target in run.data.tensors[1]]


def test_without_a_middle_the_items_are_read(tmp_path):
    run = Run(tmp_path, dataset())
    assert run.fill("1", Earlier(run.fill("3"))).figures.computed == 200
    assert run.climb("5", lambda: None).figures.computed == 200
    run.fill("3")
    middle = run.middle()
    assert Earlier(run.filled["1"], lambda: middle).climb(run.splits["5"]) is None  # it ends at another line
    assert Earlier(run.filled["1"]).climb(run.splits["3"]) is None
