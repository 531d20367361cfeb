from frostline.core.order import epoch_order


def test_order_is_a_permutation_that_seed_and_epoch_choose():
    orders = [epoch_order(50, shuffle=True, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2]
