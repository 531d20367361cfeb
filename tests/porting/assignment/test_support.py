import pytest
from torch import nn

from frostline.porting.assignment.matching import Ambiguity, Evidence, Pair
from frostline.porting.assignment.support import supported, word_overlap
from frostline.porting.reasons import HINT, SINGLE

ANY = nn.Linear(1, 1)


@pytest.mark.parametrize(("one", "other", "wanted"), [
    ("backbone/fc", "backbone.linear", 1.0), ("net/body", "body", 0.5), ("classifier", "attention_pool", 0.0),
    ("dense_7", "aux.fc", 0.0), ("dense_7", "dense_7", 1.0),
])  # fmt: skip
def test_words_are_compared_but_not_those_of_types(one, other, wanted):
    assert word_overlap(one, other) == wanted


def kept(*pairs, flows=(None, None)):
    return [pair.source for pair in supported(pairs, Evidence(ANY, *flows, "file"))]


def test_pairs_of_one_shape_need_a_name_and_others_do_not():
    hint = Pair("a", "x", HINT, 1.0)
    assert kept(hint, Pair("classifier", "pool", SINGLE, 1.0), Pair("body", "net.body", SINGLE, 1.0)) == ["a", "body"]


def test_a_place_is_what_stands_before_and_after_and_that_must_be_paired_itself():
    source = {"a": set(), "b": {"a"}, "c": {"b"}}
    target = {"x": set(), "y": {"x"}, "z": {"y"}, "more": {"z"}}
    pairs = [Pair("a", "x", SINGLE, 1.0), Pair("b", "y", SINGLE, 1.0), Pair("c", "z", SINGLE, 1.0)]
    assert kept(*pairs[:2], flows=(source, target)) == ["a", "b"]
    assert kept(*pairs, flows=(source, target)) == ["a", "b"]  # `c` is an end, `z` is none


def test_what_stands_before_or_after_may_be_open_as_a_group():
    source, target = {"a": set(), "b": {"a"}, "c": {"a"}}, {"x": set(), "y": {"x"}, "z": {"x"}}
    pair, evidence = Pair("a", "x", SINGLE, 1.0), Evidence(ANY, source, target, "file")
    assert supported([pair], evidence, [Ambiguity(("b", "c"), ("z", "y"), "")])
    assert not supported([pair], evidence, [Ambiguity(("b", "c"), ("z", "q"), "")])
    assert not supported([pair], evidence, [Ambiguity(("b", "c"), ("x", "y", "z"), "")])
    assert not supported([pair], evidence)
