from torch import nn

from frostline.porting.assignment.matching import Evidence, match

CHAIN = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))


def told(candidates, targets, *, model=CHAIN, flows=(None, None), order="file", hints=None):
    pairs, opened = match(candidates, list(candidates), targets, Evidence(model, *flows, order, hints or {}))
    return {pair.source: (pair.target, pair.reason) for pair in pairs}, opened


def test_what_only_one_layer_can_be_is_taken_and_leaves_less_for_the_others():
    found, opened = told({"a": {"x", "y"}, "b": {"y"}, "c": {"x", "y", "z"}}, ["x", "y", "z"])
    assert {name: target for name, (target, _) in found.items()} == {"a": "x", "b": "y", "c": "z"}
    assert not opened


def test_names_tell_and_say_so():
    found, _ = told({"q": {"a.query", "a.key"}, "k": {"a.query", "a.key"}}, ["a.query", "a.key"])
    assert found == {"q": ("a.query", "names"), "k": ("a.key", "names")}


def test_the_same_names_are_told_before_anything_else():
    both = {"a.one", "a.two"}
    found, _ = told({"a/two": both, "a/one": both}, ["a.one", "a.two"])
    assert found["a/two"] == ("a.two", "the same name")


def test_order_counts_along_the_flow_of_values_only():
    any_of = {"0", "1", "2"}
    candidates = dict.fromkeys(("dense", "dense_1", "dense_2"), any_of)
    chain = {"0": set(), "1": {"0"}, "2": {"1"}}
    found, _ = told(candidates, ["0", "1", "2"], flows=(None, chain), order="numbers")
    assert found["dense_2"] == ("2", "order along the flow of values")
    side_by_side = {"0": set(), "1": set(), "2": {"0", "1"}}
    assert told(candidates, ["0", "1", "2"], flows=(None, side_by_side), order="numbers")[0] == {}
    assert told(candidates, ["0", "1", "2"], flows=(None, chain))[0] == {}  # the order of a file is no evidence


def test_layers_of_a_loop_have_no_order():
    loop = {"0": {"1"}, "1": {"0"}}
    candidates = {key: set(loop) for key in ("dense", "dense_1")}
    found, (opened,) = told(candidates, ["1", "0"], flows=(None, loop), order="numbers")
    assert found == {}
    assert opened.is_counted


def test_numbers_count_layers_of_one_name():
    chain = {"0": set(), "1": {"0"}}
    assert told({"down": set(chain), "up": set(chain)}, ["0", "1"], flows=(None, chain), order="numbers")[0] == {}
    # Keras counts the layers that it makes, whatever they are called
    assert (
        told({"down": set(chain), "up": set(chain)}, ["0", "1"], flows=(None, chain), order="layers")[0]["up"][0] == "1"
    )


def test_where_nothing_ran_the_entries_of_a_sequence_are_in_order():
    candidates = {name: {"0", "1", "2"} for name in ("dense", "dense_1", "dense_2")}
    assert told(candidates, ["0", "1", "2"], order="numbers")[0]["dense_1"][0] == "1"


def test_names_against_order_is_an_ambiguity():
    chain = {"a.key": set(), "a.query": {"a.key"}}
    both = set(chain)
    found, opened = told({"query": both, "key": both}, ["a.key", "a.query"], flows=(None, chain), order="graph")
    assert not found
    assert opened[0].why == "names and order contradict each other"


def test_names_that_share_little_are_a_guess():
    # `out` sounds like `o_proj`, and is not: what else sounds like it is not yet told
    any_of = {"o_proj", "final"}
    found, opened = told({"look/attention_output": any_of, "out": any_of}, ["o_proj", "final"])
    assert not found
    assert opened[0].sources == ("look/attention_output", "out")


def test_more_layers_on_one_side_are_left_open():
    _, opened = told({"a": {"x", "y"}}, ["x", "y"])
    assert opened[0].why == "1 layers of the file fit 2 layers of the module"


def test_hints_come_first():
    both = {"x", "y"}
    found, _ = told({"a": both, "b": both}, ["x", "y"], hints={"a": "y"})
    assert found == {"a": ("y", "your hint"), "b": ("x", "no other layer has this type and shape")}


def test_numbers_that_do_not_ascend_are_no_order():
    names = ("block/0/norm1", "block/1/norm1", "block/0/norm2", "block/1/norm2")  # as the layers of a stack come
    chain = {str(at): {str(at - 1)} if at else set() for at in range(4)}
    assert told({key: set(chain) for key in names}, list(chain), flows=(None, chain), order="numbers")[0] == {}


def test_what_is_open_says_whether_the_file_counts_it():
    candidates = {key: {"a", "b"} for key in ("dense", "dense_1")}
    side_by_side = {"a": set(), "b": set()}
    for order, is_counted in (("numbers", True), ("file", False)):
        _, (opened,) = told(candidates, ["a", "b"], flows=(None, side_by_side), order=order)
        assert opened.is_counted is is_counted


def test_the_same_names_against_the_order_is_an_ambiguity():
    # the file counts `dense` before `dense_1`; the module runs `dense_1` first
    both = {"dense", "dense_1"}
    chain = {"dense_1": set(), "dense": {"dense_1"}}
    found, opened = told(dict.fromkeys(("dense", "dense_1"), both), ["dense_1", "dense"], flows=(None, chain),
                         order="numbers")  # fmt: skip
    assert not found
    assert opened[0].why == "names and order contradict each other"


def margins(sources, targets, **evidence):
    pairs, _ = match({name: set(targets) for name in sources}, sources, targets, Evidence(CHAIN, None, **evidence))
    return {pair.source: (pair.target, pair.reason, pair.margin) for pair in pairs}


def test_numbers_alone_tell_little():
    # a decoder may count its levels from below: the numbers of both sides agree, and nothing else does
    chain = {"ups.0": set(), "ups.1": {"ups.0"}, "ups.2": {"ups.1"}}
    found = margins(["up_1", "up_2", "up_3"], list(chain), target_flow=chain, order="numbers")
    assert found["up_1"][:2] == ("ups.0", "numbers in names")
    assert max(margin for _, _, margin in found.values()) <= 0.1


def test_the_order_of_a_graph_is_more_than_numbers():
    chain = {"ups.0": set(), "ups.1": {"ups.0"}}
    assert margins(["up_1", "up_2"], list(chain), target_flow=chain, order="graph")["up_1"][1] == "names and order"


def test_numbers_of_layers_as_they_were_made_tell_nothing():
    assert margins(["dense", "dense_1"], ["net.0", "net.1"], target_flow=None, order="made") == {}
    assert margins(["dense_0", "dense_1"], ["net.0", "net.1"], target_flow=None, order="file") != {}


def test_what_the_others_leave_over_is_told_by_no_name():
    found = margins(["a/query", "a/key", "a/rotation"], ["b.query", "b.key", "b.value"], target_flow=None, order="file")
    assert found["a/query"][1] == "names"
    assert found["a/rotation"] == ("b.value", "the remaining names", 0.0)


def test_what_is_left_is_no_surer_than_what_left_it():
    sources, targets = ["up_1", "up_2", "x"], ["ups.0", "ups.1", "y"]
    candidates = {"up_1": {"ups.0", "ups.1"}, "up_2": {"ups.0", "ups.1"}, "x": {"y", "ups.0"}}
    pairs, _ = match(candidates, sources, targets, Evidence(CHAIN, None, None, "file"))
    assert {pair.source: pair.margin for pair in pairs}["x"] == 1.0  # nothing else can be `y`
    assert {pair.source: pair.margin for pair in pairs}["up_1"] <= 0.1


def test_a_group_that_cannot_be_assigned_to_its_end_is_left_open():
    found, opened = told({"a": {"x"}, "b": {"x"}, "c": {"x", "y", "z"}}, ["x", "y", "z"])
    assert not found
    assert opened[0].sources == ("a", "b", "c")


def test_what_follows_from_each_other_is_taken_however_many():
    count = 400
    candidates = {f"s{at}": {f"t{other}" for other in range(at + 1)} for at in range(count)}
    found, _ = told(candidates, [f"t{at}" for at in range(count)])
    assert all(found[f"s{at}"][0] == f"t{at}" for at in range(count))


def test_numbers_in_names_count_the_entries_of_a_sequence():
    model = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "a": nn.Linear(2, 2)})
    both = {"mlp.0", "mlp.2"}
    found, _ = told({"linear2": both, "linear1": both}, ["mlp.0", "mlp.2"], model=model)
    assert {name: target for name, (target, _) in found.items()} == {"linear1": "mlp.0", "linear2": "mlp.2"}
    for names in (("up", "down"), ("fc1", "fc4"), ("fc1", "out2"), ("a1b1", "a2b2")):  # nothing counts there
        assert told(dict.fromkeys(names, both), ["mlp.0", "mlp.2"], model=model)[0] == {}
    others = {"mlp.0", "a"}
    assert told(dict.fromkeys(("fc1", "fc2"), others), ["mlp.0", "a"], model=model)[0] == {}


def test_numbers_that_words_put_in_another_order_are_ambiguous():
    targets = [f"conv{conv}.{block}" for conv in (1, 2) for block in (0, 1)]
    sources = [f"u{block}_c{conv}" for block in (0, 1) for conv in (1, 2)]
    found, (opened,) = told({name: set(targets) for name in sources}, targets)
    assert found == {}
    assert "in more than one way" in opened.why
    targets = [f"u{block}.conv{conv}" for block in (0, 1) for conv in (1, 2)]
    assert told({name: set(targets) for name in sources}, targets)[0]["u0_c2"][0] == "u0.conv2"
