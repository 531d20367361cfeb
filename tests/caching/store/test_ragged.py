"""Rows of differing size in a shard: written, chosen, checked and gathered."""

import torch

from frostline.caching.store.ragged import RaggedSpan, TargetSizes, chosen_rows, fits, packed, shapes_name


def shard(*rows):
    parts = [packed({"x": row[None], "y": torch.ones(1)}, ["x"]) for row in rows]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


ROWS = [torch.arange(6.0).view(2, 3), torch.ones(1, 3), torch.full((4, 3), 2.0)]


def test_values_lie_one_behind_the_other_with_their_shapes():
    made = shard(*ROWS)
    assert made["x"].shape == (21,)
    assert made[shapes_name("x")].tolist() == [[2, 3], [1, 3], [4, 3]]
    chosen = chosen_rows(made, torch.tensor([2, 0]))
    assert torch.equal(chosen["x"], torch.cat([ROWS[2].flatten(), ROWS[0].flatten()]))
    assert chosen["y"].shape == (2,)


def test_what_does_not_fit_is_seen():
    made = shard(*ROWS)
    assert fits(made, "x", torch.float32, (-1, 3), 3)
    assert not fits(made, "x", torch.float32, (-1, 4), 3)
    assert not fits(made, "x", torch.float64, (-1, 3), 3)
    assert not fits(made, "x", torch.float32, (-1, 3), 2)
    assert not fits({**made, "x": made["x"][:-1]}, "x", torch.float32, (-1, 3), 3)
    assert not fits({"x": made["x"]}, "x", torch.float32, (-1, 3), 3)


def test_rows_of_several_shards_are_gathered_and_padded():
    shards = [shard(*ROWS[:2]), shard(ROWS[2])]
    span = RaggedSpan("x", shards, torch.tensor([1, 0, 0]), torch.tensor([0, 1, 0]), 9, is_left=False)
    batch = span.gather(torch.tensor([1, 2]))
    assert batch.shape == (2, 2, 3)
    assert torch.equal(batch[0], torch.cat([ROWS[1], torch.full((1, 3), 9.0)]))
    assert torch.equal(batch[1], ROWS[0])
    assert torch.equal(span.gather(torch.tensor([0]))[0], ROWS[2])


def test_targets_are_cut_to_the_longest_of_a_batch():
    targets, sizes = torch.tensor([[1, 2, -100], [3, -100, -100], [4, 5, 6]]), torch.tensor([[2], [1], [3]])
    own = TargetSizes({"0": sizes}, is_left=False)
    assert own.of("0") is sizes
    assert own.of("1") is None
    assert own.cut(targets[:2], torch.tensor([0, 1])).tolist() == [[1, 2], [3, -100]]
    assert own.part(torch.tensor([1, 2])).cut(targets[1:2], torch.tensor([0])).tolist() == [[3]]
