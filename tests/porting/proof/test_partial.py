from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import frostline as fl
import helpers_pretrained as nets
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import Place, nearest, outputs_of
from frostline.porting.proof.partial import depends_on_kept, find_comparison_point
from frostline.porting.proof.reference import reference_of
from frostline.porting.proof.trials import prove, settle
from helpers_interpreting import floats, network, small_network
from helpers_porting import numbers, source_of

SOURCE = small_network("softmax")


class Own(nn.Module):
    """The network of `SOURCE` with a head of other classes, and perhaps other parts."""

    def __init__(self, kind=nn.ReLU, eps=0.5, stem=None):
        super().__init__()
        self.stem = stem or nn.Identity()
        self.conv, self.kind, self.norm = nn.Conv2d(2, 4, 3, bias=False), kind(), nn.BatchNorm2d(4, eps)
        self.head = nn.Linear(4, 9)

    def forward(self, x):
        return self.head(self.norm(self.kind(self.conv(self.stem(x)))).mean((2, 3)))


def ported(model, source=SOURCE):
    """The runs of a partial port, and what is said if there are none."""
    plan = make_plan(source, "file", model, partial=True)
    reference = reference_of(source, plan, model)
    plan, tried = settle(plan, model, reference.goldens)
    carry_out(plan, model)
    return prove(plan, model, reference, tried), reference.notes


def test_the_last_ported_layer_is_compared():
    (run,), notes = ported(Own())
    assert run.layers == ("norm",)
    assert run.error < 1e-5
    assert run.kind == "an interpretation of the file's own graph in float64 (channels on axis 1)"
    assert notes == ()


@pytest.mark.parametrize("options", [{"kind": nn.Tanh}, {"eps": 1e-5}])
def test_a_module_that_computes_something_else_up_to_there_is_refused(options):
    with pytest.raises(fl.PortError, match="The module does not compute what the source network does") as caught:
        ported(Own(**options))
    assert (
        "the first layer that differs is 'norm' (BatchNormalization) and 'norm' (BatchNorm2d)" in caught.value.received
    )


def test_layers_behind_are_not_compared():
    model = Own()
    model.head = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2))
    assert ported(model)[0][0].layers == ("norm",)


def test_a_source_that_cannot_be_computed_behind_is_computed_up_to_there():
    layers = tuple(replace(one, kind="Lambda") if one.name == "pool" else one for one in SOURCE.layers)
    assert ported(Own(), replace(SOURCE, layers=layers))[0][0].layers == ("norm",)
    layers = tuple(replace(one, kind="Lambda") if one.name == "conv" else one for one in SOURCE.layers)
    runs, notes = ported(Own(), replace(SOURCE, layers=layers))
    assert runs == ()
    assert notes == ("The file's graph was not run: not interpreted: conv (Lambda).",)


@pytest.mark.parametrize("stem", [nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)])
def test_a_new_stem_is_said(stem):
    runs, notes = ported(Own(stem=stem))
    assert runs == ()
    assert "layers that keep their values precede layers that were ported" in notes[0]


def test_a_stem_of_the_file_that_went_nowhere_is_said():
    source = network(
        *[(one.name, one.kind, dict(one.config), ("stem",) if one.name == "conv" else one.inputs)
          for one in SOURCE.layers[:1]], ("stem", "Conv2D", {"use_bias": False, "kernel_size": [1, 1]}, ("x",)),
        *[(one.name, one.kind, dict(one.config), ("stem",) if one.name == "conv" else one.inputs)
          for one in SOURCE.layers[1:]],
        stem__kernel=floats(1, 1, 2, 2), **{f"{one.unit}__{one.leaf}": one.load() for one in SOURCE.tensors},
    )  # fmt: skip
    runs, notes = ported(Own(), source)
    assert runs == ()
    assert "'stem' of the file was not assigned, and precedes layers that were ported" in notes[0]


TWO = network(
    ("x", "InputLayer", {"batch_shape": [None, 4]}, ()),
    ("a", "Dense", {"use_bias": False, "activation": "relu"}, ("x",)),
    ("b", "Dense", {"use_bias": False, "activation": "tanh"}, ("x",)),
    ("sum", "Concatenate", {}, ("a", "b")), ("out", "Dense", {"use_bias": False}, ("sum",)),
    a__kernel=floats(4, 5), b__kernel=floats(4, 5, seed=1), out__kernel=floats(10, 3),
)  # fmt: skip


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.a, self.new = nn.Linear(4, 5, False), nn.Linear(4, 5, False), nn.Linear(10, 2)

    def forward(self, x):
        return self.new(torch.cat([self.a(x).relu(), self.b(x).tanh()], 1))


def test_several_layers_may_be_the_last():
    (run,), _ = ported(Two(), TWO)
    assert run.layers == ("a", "b")
    assert run.kind.startswith("an interpretation of the file's own graph in float64, before its last activation")


def recurrent(**config):
    return network(
        ("x", "InputLayer", {"batch_shape": [None, 5, 3]}, ()),
        ("rnn", "SimpleRNN", {"activation": "tanh", **config}, ("x",)),
        ("out", "Dense", {"use_bias": False}, ("rnn",)), rnn__kernel=floats(3, 4), rnn__recurrent_kernel=floats(4, 4),
        rnn__bias=floats(4), out__kernel=floats(4, 2),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.rnn, self.new = nn.RNN(3, 4, batch_first=True, **options), nn.Linear(4, 7)

    def forward(self, x):
        return self.new(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("sequences", [False, True])
def test_recurrent_layers_are_compared_by_what_they_give(sequences):
    source = recurrent(return_sequences=sequences)
    (run,), _ = ported(Recurrent(), source)
    assert run.layers == ("rnn",)
    with pytest.raises(fl.PortError, match="does not compute"):
        ported(Recurrent(nonlinearity="relu"), source)


def test_a_layer_that_has_no_one_output_is_not_compared():
    model = Recurrent()
    plan = make_plan(recurrent(), "file", model, partial=True)
    assert find_comparison_point(recurrent(), plan, model).at == (Place("rnn", takes_last_step=True),)
    twice = Recurrent()
    twice.forward = lambda x: twice.new(twice.rnn(twice.rnn(x)[0][:, :, :3])[0][:, -1])
    assert outputs_of(twice, torch.ones(2, 5, 3), (Place("rnn"),)) == []
    runs, notes = ported(twice, recurrent())
    assert runs == ()
    assert "the module takes or returns others" in notes[0]


def test_other_values_for_a_moment_leave_no_trace():
    model = Own()
    plan = make_plan(SOURCE, "file", model, partial=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = floats(2, 2, 6, 7).float()
    assert not depends_on_kept(plan, model, x, (Place("norm"),))
    assert depends_on_kept(plan, model, x, (Place("head"),))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.norm._forward_hooks
    assert model.training


FILES = Path(__file__).parents[1] / "files"


def test_graphs_of_onnx_are_compared_inside():
    own, path = nets.onnx_with_another_head(), FILES / "networks" / "onnx" / "square_dense" / "model.onnx"
    hints = {"node_matmul_0": "0", "node_gemm_3": "2", "node_gemm_5": "4"}
    certificate = fl.port(path, own, partial=True, hints=hints)
    (run,) = certificate.runs
    assert (run.kind, run.layers) == ("ONNX Runtime on random inputs", ("node_gemm_5",))
    assert "the outputs of 'node_gemm_5', the last layers that were ported, agree with ONNX" in certificate.tested
    assert certificate.unknown == "what the module computes after 'node_gemm_5'."
    other = nn.Sequential(*[nn.ReLU() if isinstance(one, nn.Tanh) else one for one in nets.onnx_with_another_head()])
    with pytest.raises(fl.PortError, match="does not compute"):
        fl.port(path, other, partial=True, hints=hints)
    with pytest.raises(fl.AmbiguousPortError):  # a run cannot tell which of four layers is the head
        fl.port(path, nets.onnx_with_another_head(), partial=True)


def test_a_network_of_keras_with_a_new_head():
    own = nn.Sequential(*list(nets.tensorflow())[:-1], nn.Linear(3, 11))
    certificate = fl.port(FILES / "tensorflow" / "saved_tfkeras", own, partial=True)
    (run,) = certificate.runs
    assert run.layers == ("inner/squeeze",)
    assert (certificate.kept, certificate.unused) == (("6",), ("head",))


def test_what_a_run_settles_in_a_partial_port():
    """Which of two equal branches is which, told by the run at the last layers behind them."""
    source = network(
        ("x", "InputLayer", {"batch_shape": [None, 4]}, ()),
        ("a", "Dense", {"use_bias": False, "activation": "relu"}, ("x",)),
        ("b", "Dense", {"use_bias": False, "activation": "tanh"}, ("x",)),
        ("sum", "Subtract", {}, ("a", "b")), ("mix", "Dense", {"use_bias": False}, ("sum",)),
        ("out", "Dense", {"use_bias": False}, ("mix",)),
        a__kernel=floats(4, 5), b__kernel=floats(4, 5, seed=1), mix__kernel=floats(5, 6), out__kernel=floats(6, 3),
    )  # fmt: skip

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.p = nn.Linear(4, 5, False), nn.Linear(4, 5, False)
            self.mix, self.new = nn.Linear(5, 6, False), nn.Linear(6, 2)

        def forward(self, x):
            return self.new(self.mix(self.p(x).relu() - self.q(x).tanh()))

    own = Branches()
    (run,), _ = ported(own, source)
    assert (run.layers, run.alternatives) == (("mix",), 2)
    assert torch.allclose(own.p.weight.T, source.tensors[0].load().float())


def test_nearest_looks_at_layers():
    model = Own()
    reference = reference_of(SOURCE, make_plan(SOURCE, "file", model, partial=True), model)
    carry_out(make_plan(SOURCE, "file", model, partial=True), model)
    assert nearest(model, reference.goldens)[0] < 1e-5


def test_a_layer_with_a_folded_norm_is_compared_behind_the_norm():
    layers = [("in", "Input", {}, ()), ("a", "Conv", {}, ("in",)), ("r", "Relu", {}, ("a",)),
              ("b", "Conv", {}, ("r",)), ("head", "Conv", {}, ("b",))]  # fmt: skip
    units = {
        name: {"weight": numbers(4, 4, 1, 1, seed=at), "bias": numbers(4, seed=at)} for at, name in enumerate("ab")
    }
    units["head"] = {"weight": numbers(5, 4, 1, 1), "bias": numbers(5)}
    source = source_of("onnx", units, order="graph", layers=layers)
    model = nn.Sequential(
        nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False),
        nn.BatchNorm2d(4), nn.Conv2d(4, 9, 1),
    ).eval()  # fmt: skip
    meeting = find_comparison_point(source, make_plan(source, "file", model, partial=True), model)
    assert (meeting.layers, meeting.at) == (("b",), (Place("4"),))
