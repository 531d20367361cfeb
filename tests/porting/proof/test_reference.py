import pytest
import torch
from torch import nn

from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import Place
from frostline.porting.proof.reference import reference_of
from helpers_interpreting import floats, network

KERNEL, NARROW = floats(3, 3, 2, 4) / 3, floats(4, 3, seed=1)
SOURCE = network(
    ("x", "InputLayer", {"batch_shape": [None, 6, 7, 2]}, ()),
    ("conv", "Conv2D", {"use_bias": False, "activation": "relu"}, ("x",)),
    ("pool", "GlobalAveragePooling2D", {}, ("conv",)),
    ("out", "Dense", {"use_bias": False, "activation": "softmax"}, ("pool",)),
    conv__kernel=KERNEL, out__kernel=NARROW,
)  # fmt: skip


class Own(nn.Module):
    def __init__(self, ending=nn.Softmax(1)):  # noqa: B008
        super().__init__()
        self.conv, self.out, self.ending = nn.Conv2d(2, 4, 3, bias=False), nn.Linear(4, 3, bias=False), ending
        self.conv.weight.data = KERNEL.permute(3, 2, 0, 1).contiguous()
        self.out.weight.data = NARROW.T.contiguous()

    def forward(self, x):
        return self.ending(self.out(self.conv(x).relu().mean((2, 3))))


def found(source, model):
    return reference_of(source, make_plan(source, "file", model), model)


def test_there_is_a_golden_for_every_way_in_which_the_module_can_be_run():
    from frostline.porting.proof.module_outputs import nearest

    reference = found(SOURCE, Own())
    assert [tuple(golden.inputs.shape) for golden in reference.goldens] == [(3, 2, 6, 7)] * 2
    error, golden = nearest(Own(), reference.goldens)
    assert error < 1e-6
    assert golden.kind == "an interpretation of the file's own graph in float64 (channels on axis 1)"
    error, golden = nearest(Own(nn.Identity()), reference.goldens)
    assert error < 1e-6
    assert "before its last activation" in golden.kind
    assert reference.notes == ()


def test_nothing_is_run_for_files_without_architecture():
    plain = network(conv__kernel=KERNEL, out__kernel=NARROW)
    assert found(plain, Own()).goldens == ()


def test_a_partial_port_is_compared_at_the_last_layers_that_were_ported():
    model = nn.Sequential(Own(), nn.Linear(3, 9))
    reference = reference_of(SOURCE, make_plan(SOURCE, "file", model, partial=True), model)
    assert {golden.layers for golden in reference.goldens} == {("out",)}
    assert {golden.at for golden in reference.goldens} == {(Place("0.out"),)}


@pytest.mark.parametrize(
    ("source", "note"),
    [
        (network(*[(one.name, "Lambda" if one.name == "pool" else one.kind, dict(one.config), one.inputs)
                   for one in SOURCE.layers], conv__kernel=KERNEL, out__kernel=NARROW),
         "The file's graph was not run: not interpreted: pool (Lambda)."),
        (network(*[(one.name, one.kind, dict(one.config), one.inputs) for one in SOURCE.layers[:2]],
                 ("out", "Dense", {"use_bias": False}, ("conv",)), conv__kernel=KERNEL, out__kernel=NARROW),
         "The file's graph returns outputs of shape (3, 4, 5, 3) for random inputs; the module takes or returns "
         "others."),
    ],
)  # fmt: skip
def test_notes_state_why_nothing_is_compared(source, note):
    reference = found(source, Own())
    assert reference.goldens == ()
    assert reference.notes == (note,)


def test_inputs_that_the_module_takes_prepared():
    layers = [("x", "InputLayer", {"batch_shape": [None, 4]}, ()), ("scale", "Rescaling", {"scale": 0.5}, ("x",)),
              ("out", "Dense", {"use_bias": False}, ("scale",))]  # fmt: skip
    source = network(*layers, out__kernel=NARROW)
    model = nn.Linear(4, 3, bias=False)
    model.weight.data = NARROW.T.contiguous()
    reference = found(source, model)
    fitting = [
        golden.kind for golden in reference.goldens if torch.allclose(model(golden.inputs).double(), golden.outputs[0])
    ]
    (kind,) = fitting
    assert kind.endswith("graph in float64, on inputs after its scale (axes as in the file)")
