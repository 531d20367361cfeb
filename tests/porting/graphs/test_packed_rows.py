import pytest
import torch
from torch import nn

from frostline.porting.graphs.packed_rows import PackedRows
from frostline.porting.layouts.packed import IN_ORDER, orders

SIZES = (6, 6, 6)
ORDERS = orders(SIZES, [3])


class Reads(nn.Module):
    """An attention that reads its packed layer in one of the orders."""

    def __init__(self, order, *, has_places=False):
        super().__init__()
        self.qkv, self.last, self.rows, self.has_places = nn.Linear(6, 18), nn.Linear(6, 4), ORDERS[order], has_places

    def forward(self, x):
        q, k, v = (one.unflatten(-1, (3, 2)).transpose(1, 2) for one in self.qkv(x)[..., self.rows].split(6, -1))
        if self.has_places:
            q, k = (one * torch.arange(1, x.shape[1] + 1)[:, None] for one in (q, k))
        mixed = (q @ k.mT / 2**0.5).softmax(-1) @ v
        return {"out": self.last(mixed.transpose(1, 2).flatten(2))}


@pytest.mark.parametrize("order", ORDERS)
def test_runs_show_the_order_in_which_rows_are_read(order):
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(6), Reads(order))
    before = [one.clone() for one in model.parameters()]
    assert PackedRows(model, torch.ones(2, 5, 6)).order("1.qkv", SIZES, ORDERS) == order
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert not model[1].qkv._forward_hooks


def test_keys_that_depend_on_their_place_show_nothing():
    assert not PackedRows(Reads(IN_ORDER, has_places=True), torch.ones(2, 5, 6)).order("qkv", SIZES, ORDERS)


def test_a_module_that_cannot_be_run_or_is_run_on_one_place_shows_nothing():
    for example in (None, torch.ones(2, 5, 7), torch.ones(2, 1, 6)):
        assert not PackedRows(Reads(IN_ORDER), example).order("qkv", SIZES, ORDERS)


def test_attentions_of_one_class_are_run_once():
    model = nn.Sequential(nn.Module(), nn.Module())
    model[0].attention, model[1].attention = Reads(IN_ORDER), Reads(IN_ORDER)
    model.forward = lambda x: model[0].attention(x)["out"]
    rows = PackedRows(model, torch.ones(2, 5, 6))
    assert rows.order("0.attention.qkv", SIZES, ORDERS) == IN_ORDER
    assert rows.order("1.attention.qkv", SIZES, ORDERS) == IN_ORDER
