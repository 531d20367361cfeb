from frostline.porting import reasons


def test_certificates_on_disk_contain_these_texts():
    texts = {name: value for name, value in vars(reasons).items() if isinstance(value, str) and name.isupper()}
    assert texts == {
        "HINT": "your hint",
        "SINGLE": "no other layer has this type and shape",
        "LAST": "no other layer of this type and shape is left",
        "FLOW": "its place in the flow of values",
        "SAME_NAME": "the same name",
        "NAMES": "names",
        "NAMES_AND_ORDER": "names and order",
        "NUMBERS_IN_NAMES": "numbers in names",
        "REMAINING_NAMES": "the remaining names",
        "PREFIX": "the block of layers with the same name prefix",
        "ORDER": "order along the flow of values",
    }
    assert set(reasons.WEAK) < set(texts.values())
