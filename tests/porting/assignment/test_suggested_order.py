from frostline.porting.assignment.suggested_order import suggest_order


def test_names_come_before_places_and_places_before_nothing():
    flow = {"skip": set(), "reduce": set(), "restore": {"reduce"}}
    assert suggest_order(["conv1", "conv2", "downsample"], ["skip", "reduce", "restore"], flow) == (
        "reduce",
        "restore",
        "skip",
    )
    assert suggest_order(["conv10", "conv9"], ["a", "b"], None) == ("b", "a")


def test_layers_that_are_left_over_stand_behind():
    assert suggest_order(["key", "value"], ["a.query", "a.key", "a.value"], None) == ("a.key", "a.value", "a.query")
