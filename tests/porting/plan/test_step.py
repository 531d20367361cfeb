from torch import nn

from frostline.porting.plan.port_plan import make_plan
from frostline.porting.plan.step import OpenGroup, Step
from frostline.porting.units.unit import SourceUnit, TargetUnit


def step(source, target, reason=""):
    return Step(SourceUnit(source, "keras", {}), TargetUnit(target, nn.Identity(), {}, target), (), reason, 0.0)


def group(sources, targets, before=None, without=()):
    steps = {(one, other): (step(one, other),) for one in sources for other in targets if (one, other) not in without}
    return OpenGroup(tuple(sources), tuple(targets), "why", steps, before or {})


def pairs(way):
    return "".join(f"{one.source.name}{one.target.name}" for one in way)


def test_every_assignment_of_pairs_that_fit():
    assert [pairs(way) for way in group("ab", "xy").ways()] == ["axby", "aybx"]
    assert [pairs(way) for way in group("ab", "xy", without=[("a", "x")]).ways()] == ["aybx"]
    assert len(list(group("abc", "xyz").ways())) == 6


def test_layers_that_are_counted_come_in_the_order_of_the_flow():
    chain = {"x": frozenset(), "y": frozenset("x"), "z": frozenset()}
    assert [pairs(way) for way in group("abc", "xyz", chain).ways()] == ["axbycz", "axbzcy", "azbxcy"]


def test_neighbours_differ_by_one_exchange_or_one_way():
    whole = group("abc", "xyz")
    first = next(whole.ways())
    assert {pairs(way) for way in whole.neighbours(first)} == {"aybxcz", "azbycx", "axbzcy"}
    several = OpenGroup(("a",), ("x",), "", {("a", "x"): (step("a", "x"), step("a", "x", "other"))})
    assert several.is_pair
    (other,) = several.neighbours(next(several.ways()))
    assert other[0].reason == "other"


def test_a_plan_holds_pairs_of_open_groups_with_all_their_ways():
    from helpers_porting import numbers, source_of

    source = source_of("numpy", {name: {"weight": numbers(2, 2), "bias": numbers(2)} for name in ("x", "y")})
    plan = make_plan(source, "file", nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}))
    (opened,) = plan.opened
    assert not opened.is_pair
    assert len(list(opened.ways())) == 8  # two orders, and each matrix as it is or transposed


def test_pairs_whose_ways_depend_on_each_other_have_only_these():
    ways = tuple((step("a", "x", text), step("b", "y", text)) for text in ("one", "other"))
    steps = {("a", "x"): tuple(way[0] for way in ways), ("b", "y"): tuple(way[1] for way in ways)}
    linked = OpenGroup(("a", "b"), ("x", "y"), "why", steps, linked=ways)
    assert list(linked.ways()) == list(ways)
    assert list(linked.neighbours(ways[0])) == [ways[1]]
    assert linked.is_pair
