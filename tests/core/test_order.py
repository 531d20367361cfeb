import pytest
import torch

from frostline.core.order import epoch_order, windowed_order


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
