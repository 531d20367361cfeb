import pytest
from torch import nn

from frostline.core.errors import AmbiguousPortError
from frostline.porting.plan.ambiguity import SEVERAL, refuse_ambiguity
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


def two_equal_layers():
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    units = {"x": {"kernel": numbers(2, 2)}, "y": {"kernel": numbers(2, 2)}}
    return make_plan(source_of("keras", units, order="file"), "file.h5", module)


def test_an_ambiguity_lists_its_alternatives():
    made = two_equal_layers()
    with pytest.raises(AmbiguousPortError, match="1 group of layers of the file fit the module") as caught:
        refuse_ambiguity(made)
    assert {"x": "a", "y": "b"} in caught.value.alternatives
    assert {"x": "b", "y": "a"} in caught.value.alternatives


@pytest.mark.parametrize(
    ("options", "do", "received"),
    [
        ({}, "or pass golden=(inputs, outputs) with outputs of the source network", "equally well: a, b"),
        ({"remedy": SEVERAL}, "more than one assignment reproduces the outputs", "equally well: a, b"),
        ({"unseen": ["b"]}, "pass outputs that depend on these layers", "the compared outputs do not depend on b"),
        ({"over": "9 runs were too many"}, "outputs for fewer or smaller inputs", "; 9 runs were too many"),
    ],
)
def test_the_remedy_follows_what_was_compared(options, do, received):
    with pytest.raises(AmbiguousPortError) as caught:
        refuse_ambiguity(two_equal_layers(), **options)
    assert do in caught.value.do
    assert received in caught.value.received


def test_a_plan_without_open_groups_is_not_refused():
    made = make_plan(source_of("keras", {"x": {"kernel": numbers(2, 3)}}), "file.h5", nn.Sequential(nn.Linear(2, 3)))
    assert refuse_ambiguity(made) is None
