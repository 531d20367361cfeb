from frostline.porting.units.forms.caffe import with_scales
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def test_a_norm_takes_the_scale_behind_it():
    units = {"bn": {"mean": numbers(3), "variance": numbers(3)}, "scale": {"gamma": numbers(3), "beta": numbers(3)}}
    (unit,) = with_scales(source_units(source_of("caffe", units)))
    assert list(unit.leaves) == ["mean", "variance", "gamma", "beta"]


def test_a_scale_behind_something_else_is_no_part_of_it():
    units = {"bn": {"mean": numbers(3), "variance": numbers(3)}, "scale": {"gamma": numbers(3), "beta": numbers(3)}}
    layers = [("bn", "BatchNorm", {}, ()), ("scale", "Scale", {}, ("data",))]
    assert len(with_scales(source_units(source_of("caffe", units, layers=layers)))) == 2
    units["scale"] = {"gamma": numbers(4)}
    assert len(with_scales(source_units(source_of("caffe", units)))) == 2
