from torch import nn

from frostline.porting.plan import sides
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.plan.sides import both_sides
from helpers_porting import numbers, source_of


def test_layers_of_both_sides_are_known_by_name_with_the_moves_of_each_pair_that_fits():
    units = {"x": {"kernel": numbers(2, 3)}, "y": {"kernel": numbers(5, 7)}}
    found = both_sides(source_of("keras", units), "file.h5", nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)))
    assert (list(found.units), list(found.targets)) == (["x", "y"], ["0", "1"])
    assert {name: list(others) for name, others in found.table.items()} == {"x": ["0", "1"], "y": []}
    assert found.table["x"]["0"][0].text() == "(in, out) to (out, in)"


def test_other_forms_of_a_unit_are_made_where_it_fits_no_layer_only(monkeypatch):
    made = []

    def forms(unit):
        made.append(unit.name)
        yield from ()

    monkeypatch.setattr(sides, "other_forms", forms)
    fits, fits_not = {"kernel": numbers(3, 2)}, {"kernel": numbers(3, 5)}
    module = nn.Sequential(nn.Linear(3, 2))
    make_plan(source_of("flax", {"u": fits, "v": fits_not}), "file", module, partial=True, hints={"u": "0"})
    assert made == ["v"]
