from contextlib import ExitStack

from torch import nn

from frostline.porting.plan.port_plan import make_plan
from frostline.porting.settings.comparison import Compared, compare
from helpers_interpreting import floats, network

SOURCE = network(
    ("x", "InputLayer", {"batch_shape": [None, 8, 8, 2]}, ()),
    ("conv", "Conv2D", {"padding": "same", "strides": 2, "use_bias": False, "activation": "relu"}, ("x",)),
    ("norm", "BatchNormalization", {}, ("conv",)),
    conv__kernel=floats(3, 3, 2, 4), norm__gamma=floats(4), norm__beta=floats(4), norm__moving_mean=floats(4),
    norm__moving_variance=floats(4).abs(),
)  # fmt: skip


def test_every_pair_is_compared_with_what_is_known_of_its_input():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(4))
    plan = make_plan(SOURCE, "file", model)
    values = {"x": (1, 8, 8, 2)}
    found = {(one.check.layer, one.check.setting): one.check.status for one in compare(plan, SOURCE, model, values)}
    assert found == {
        ("0", "stride"): "agrees", ("0", "dilation"): "agrees", ("0", "padding"): "differs",
        ("0", "activation"): "agrees",
        ("2", "epsilon"): "differs", ("2", "momentum"): "differs", ("2", "variance in training"): "differs",
    }  # fmt: skip
    unknown = {one.check.setting: one.check.status for one in compare(plan, SOURCE, model, {})}
    assert unknown["padding"] == "unknown"


def test_files_without_architecture_state_no_settings():
    bare = network(w__kernel=floats(2, 3))
    model = nn.Linear(2, 3)
    assert compare(make_plan(bare, "file", model), bare, model, {}) == ()


def test_layers_that_are_still_open_are_compared_as_they_are_listed():
    norms = {f"n{at}__{leaf}": floats(3).abs() for at in (0, 1) for leaf in ("gamma", "beta")}
    source = network(("x", "InputLayer", {"batch_shape": [None, 3]}, ()), *(
        (f"n{at}", "LayerNormalization", {"epsilon": 1e-3}, ("x",)) for at in (0, 1)), **norms)  # fmt: skip
    model = nn.ModuleDict({"one": nn.LayerNorm(3), "two": nn.LayerNorm(3)})
    plan = make_plan(source, "file", model)
    assert plan.opened
    assert [one.check.status for one in compare(plan, source, model, {})] == ["differs", "differs"]


def test_what_was_set_stays_listed_when_settings_are_compared_again_and_is_put_back():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(4))
    plan = make_plan(SOURCE, "file", model)
    seen = Compared(SOURCE, model, {"x": (1, 8, 8, 2)}).by(plan)
    assert not seen.done
    assert "epsilon of '2'" in seen.causes()
    assert model[2].eps == 1e-5
    with ExitStack() as undo:
        first = Compared(SOURCE, model, {"x": (1, 8, 8, 2)}, undo).by(plan)
        again = first.by(plan)
        assert model[2].eps == 1e-3
        assert {check.setting for check in again.done} == {"epsilon", "momentum"}
        assert again.done == first.done
        statuses = {check.setting: check.status for check in again.checks(has_run=False)}
        assert (statuses["epsilon"], statuses["padding"], statuses["stride"]) == ("set", "differs", "agrees")
        assert "epsilon" not in again.causes()
    assert model[2].eps == 1e-5
