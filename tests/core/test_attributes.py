from frostline.core.attributes import attributes_of


class Slotted:
    __slots__ = ("rate", "unset")

    def __init__(self):
        self.rate = 1.0


def test_slots_are_attributes_that_are_followed():
    value = Slotted()
    attributes = attributes_of(value)
    assert dict(attributes) == {"rate": 1.0}
    value.rate = 2.0
    assert attributes["rate"] == 2.0
