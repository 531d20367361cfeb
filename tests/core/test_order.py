import pytest
import torch

from frostline.core import disk_array
from frostline.core.order import epoch_order, grouped_by_length, own_part, windowed_order


def test_order_is_a_permutation_that_seed_and_epoch_choose():
    orders = [epoch_order(50, shuffle=True, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2]


def test_the_order_is_the_same_in_every_version():
    """A run that is resumed by a later version goes on with the samples that it has not seen."""
    assert epoch_order(8, shuffle=True, seed=3, epoch=2).tolist() == [2, 3, 5, 7, 4, 0, 6, 1]
    assert epoch_order(8, shuffle=True, seed=2**63 // 1_000_003 + 1, epoch=2).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


def test_an_epoch_has_the_samples_of_its_view():
    for epoch in range(5):
        plain = epoch_order(6, shuffle=True, seed=2, epoch=epoch)
        assert torch.equal(epoch_order(6, shuffle=True, seed=2, epoch=epoch, views=3), plain + 6 * (epoch % 3))
    assert epoch_order(2, shuffle=False, seed=0, epoch=4, views=3).tolist() == [2, 3]


@pytest.mark.parametrize(("count", "block", "window"), [(100, 7, 20), (8, 2, 4), (5, 10, 3), (64, 1, 64)])
def test_a_windowed_order_has_every_sample_once_and_keeps_blocks_together(count, block, window):
    order = windowed_order(count, block=block, window=window, seed=3, epoch=2, views=2)
    assert torch.equal(order.sort().values, torch.arange(count))
    for own in order.split(window):  # nearly whole blocks: those at the ends may be shared with a neighbour
        assert len({int(at) // block for at in own}) <= -(-len(own) // block) + 2
    others = windowed_order(count, block=block, window=window, seed=3, epoch=3, views=2)
    assert torch.equal(others.sort().values, torch.arange(count, 2 * count))
    assert count < 20 or not torch.equal(order, others - count)


@pytest.mark.parametrize("count", [0, 1, 7, 64, 100])
def test_an_order_on_a_disk_is_the_same_order(tmp_path, monkeypatch, count):
    monkeypatch.setattr(disk_array, "_LEAST_BYTES", 1)
    same = {"seed": 3, "epoch": 5, "views": 2}
    lengths = torch.randint(1, 9, (2 * count,), generator=torch.Generator().manual_seed(0))
    for shuffle in (False, True):
        plain = epoch_order(count, shuffle=shuffle, **same)
        own = epoch_order(count, shuffle=shuffle, folder=tmp_path, **same)
        assert (plain.dtype, own.dtype) == (torch.int64, torch.int32)
        assert own.tolist() == plain.tolist()
        kept = {"shuffle": shuffle, "seed": 3, "epoch": 5}
        grouped = [
            grouped_by_length(one, lengths, 3, folder=folder, **kept) if count else one
            for one, folder in ((plain, None), (own, tmp_path))
        ]
        assert grouped[0].tolist() == grouped[1].tolist()
        for rank in range(2):
            assert own_part(own, 6, rank, 2, tmp_path).tolist() == own_part(plain, 6, rank, 2).tolist()
    windowed = [windowed_order(count, block=3, window=8, folder=folder, **same) for folder in (None, tmp_path)]
    assert windowed[0].tolist() == windowed[1].tolist()


def test_an_order_of_very_many_positions_holds_them_all(tmp_path):
    order = epoch_order(2, shuffle=False, seed=0, epoch=2**30, views=2**30 + 1, folder=tmp_path)
    assert order.tolist() == [2**31, 2**31 + 1]
