from frostline.porting.assignment.topology import components, refine

BOTH = {"x", "y"}


def test_layers_are_told_by_what_stands_before_them():
    source = {"a": set(), "b": {"a"}, "c": {"b"}}
    target = {"z": {"y"}, "y": {"x"}, "x": set()}
    any_of = {"x", "y", "z"}
    assert refine(dict.fromkeys("abc", any_of), source, target) == {"a": {"x"}, "b": {"y"}, "c": {"z"}}


def test_a_shortcut_and_the_end_of_its_block_are_told_apart():
    # stem -> one -> three, stem -> short; three and short are added
    source = {"stem": set(), "one": {"stem"}, "short": {"stem"}, "three": {"one"}}
    target = {"t0": set(), "t1": {"t0"}, "t3": {"t1"}, "ts": {"t0"}}
    candidates = {"stem": {"t0"}, "one": {"t1"}, "short": {"t3", "ts"}, "three": {"t3", "ts"}}
    assert refine(candidates, source, target)["three"] == {"t3"}


def test_twins_stay_twins():
    source, target = {"a": set(), "b": set()}, {"x": set(), "y": set()}
    assert refine({"a": BOTH, "b": BOTH}, source, target) == {"a": BOTH, "b": BOTH}


def test_another_structure_says_nothing():
    assert refine({"a": BOTH, "b": BOTH}, {"a": set(), "b": {"a"}}, {"x": set(), "y": set()}) == {"a": BOTH, "b": BOTH}


def test_components():
    found = components({"a": {"x"}, "b": {"y", "z"}, "c": {"z"}, "d": {"x", "w"}})
    assert [(sorted(one), sorted(other)) for one, other in found] == [
        (["b", "c"], ["y", "z"]),
        (["a", "d"], ["w", "x"]),
    ]
