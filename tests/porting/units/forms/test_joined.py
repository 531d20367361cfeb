from frostline.porting.units.forms.joined import joined
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def test_units_below_one_scope_become_one_where_all_are_there():
    units = source_units(source_of("torch", {f"{at}/{part}": {"weight": numbers(2)} for at, part in (
        ("x", "a"), ("x", "b"), ("y", "a"))}))  # fmt: skip
    made = joined(units, ("a", "b"), ("first", "second"))
    assert [unit.name for unit in made] == ["x", "y/a"]
    assert list(made[0].leaves) == ["first/weight", "second/weight"]
