from types import SimpleNamespace

import torch

from frostline.splitting.python_state.places import Place, Walk, contents
from frostline.splitting.python_state.sources import sources_of
from helpers_splitting import Net, x


class Slotted:
    __slots__ = ("rate", "unset")

    def __init__(self):
        self.rate = 1.0


def test_a_place_notices_another_value_and_a_write_in_place():
    table = {"number": 1, "tensor": torch.zeros(2), "gone": 3, "nan": float("nan")}
    places = {name: Place(name, table, name) for name in table}
    assert not any(place.has_changed() for place in places.values())
    table["number"] = 2
    table["tensor"].add_(1)
    del table["gone"]
    table["nan"] = float("nan")
    assert [name for name, place in places.items() if place.has_changed()] == ["number", "tensor", "gone"]


def test_a_walk_finds_what_the_code_names_wherever_it_is_kept():
    def forward(m, batch):
        return m.high(m.low(batch)) * m.settings.rate * m.table["gain"] * m.slotted.rate

    model = Net(forward)
    model.settings, model.table, model.slotted = SimpleNamespace(rate=2.0, unread=1), {"gain": 3.0}, Slotted()
    walk = Walk(sources_of(model), [model])
    walk.module("", model)
    walk.scopes()
    found = contents(walk.places)
    assert found["settings.rate"] == "2.0"
    assert found["table['gain']"] == "3.0"
    assert found["slotted.rate"] == "1.0"
    assert not any("unread" in name for name in found)
    assert model(x(2)).shape == (2, 8)
