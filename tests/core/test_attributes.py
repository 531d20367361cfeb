from types import SimpleNamespace

from frostline.core.attributes import attributes_of


class Slotted:
    __slots__ = ("rate", "unset")

    def __init__(self):
        self.rate = 1.0


class Derived(Slotted):
    __slots__ = "name"

    def __init__(self):
        super().__init__()
        self.name = "a"


def test_attributes_of_an_object_are_its_own_table():
    value = SimpleNamespace(rate=1.0)
    table = attributes_of(value)
    assert table is vars(value)
    value.rate = 2.0
    assert table["rate"] == 2.0


def test_slots_are_a_table_that_follows_them():
    value = Derived()
    table = attributes_of(value)
    assert dict(table) == {"rate": 1.0, "name": "a"}
    assert len(table) == 2
    value.unset = value.rate = 3
    assert dict(table) == {"rate": 3, "unset": 3, "name": "a"}
    del value.rate
    assert "rate" not in table
    assert "never" not in table
    assert table.get("__class__") is None


def test_a_value_without_attributes_has_an_empty_table():
    assert dict(attributes_of(3)) == {}


def test_slots_are_attributes_that_are_followed():
    value = Slotted()
    attributes = attributes_of(value)
    assert dict(attributes) == {"rate": 1.0}
    value.rate = 2.0
    assert attributes["rate"] == 2.0
