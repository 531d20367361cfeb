from frostline.porting.units.forms.joined import joined
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def test_units_below_one_scope_become_one_where_all_are_there():
    units = source_units(source_of("torch", {f"{at}/{part}": {"weight": numbers(2)} for at, part in (
        ("x", "a"), ("x", "b"), ("y", "a"))}))  # fmt: skip
    made = joined(units, ("a", "b"))
    assert [(unit.name, list(unit.leaves)) for unit in made] == [("x", ["a/weight", "b/weight"]), ("y/a", ["weight"])]
    assert {name: part.name for name, part in made[0].parts.items()} == {"a": "x/a", "b": "x/b"}
