import functools

import torch
from torch import nn

from frostline.splitting.places import Walk, attributes_of, contents
from frostline.splitting.sources import sources_of


class Slotted:
    __slots__ = ("scale",)


class Settings:
    scale = 1.0


class Reading(nn.Module):
    rate = 0.5

    def __init__(self):
        super().__init__()
        self.slotted, self.settings, self.table = Slotted(), Settings(), {"a": 1, "b": [2.0]}
        self.slotted.scale, self.unread, self.partial = 3.0, 4.0, functools.partial(max, 5)

    def forward(self, batch):
        return batch * self.slotted.scale * self.settings.scale * self.table["a"] * self.rate * self.partial(1)


def places(module, **options):
    walk = Walk(sources_of(module), [module], **options)
    walk.module("", module)
    walk.scopes()
    return {place.name: place for place in walk.places}


def test_numbers_are_found_wherever_the_code_reads_them():
    found = {name: place.value for name, place in places(Reading()).items()}
    expected = {"slotted.scale": 3.0, "Settings.scale": 1.0, "table['a']": 1, "table['b'][0]": 2.0, "Reading.rate": 0.5}
    assert expected.items() <= found.items()
    assert found["partial.args[0]"] == 5
    assert "unread" not in found
    assert "unread" in places(Reading(), reads_all=True)


def test_a_place_tells_a_new_value_and_one_that_hides_it():
    module = Reading()
    found = places(module)
    assert not any(place.has_changed() for place in found.values())
    module.settings.scale = 2.0  # hides that of the class
    module.slotted.scale = 4.0
    module.table["b"][0] = 3.0
    changed = {name for name, place in found.items() if place.has_changed()}
    assert changed == {"Settings.scale", "slotted.scale", "table['b'][0]"}


def test_contents_are_compared_by_value():
    module = Reading()
    assert contents(places(module).values()) == contents(places(Reading()).values())
    module.table["a"] = torch.ones(2)
    assert contents(places(module).values()) != contents(places(Reading()).values())


def test_slots_are_attributes():
    slotted = Slotted()
    assert not list(attributes_of(slotted))
    slotted.scale = 1
    assert dict(attributes_of(slotted)) == {"scale": 1}
