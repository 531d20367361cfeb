"""`fl.port` on files that real frameworks wrote; what each step does is tested in tests/porting."""

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl
from exams.porting.stored import Stored
from frostline.porting.blocks import ResetBeforeGRU
from helpers_porting import numbers

NETWORKS = Path(__file__).parents[1] / "porting" / "files" / "networks"
EXACT = 1e-5


def two_layers():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.hidden = nn.Linear(4, 2), nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.hidden(x).relu())


@pytest.fixture
def saved(tmp_path):
    source = two_layers()
    path = tmp_path / "source.safetensors"
    save_file(source.state_dict(), path)
    return source, path


def test_a_module_with_other_names_computes_the_same(saved):
    source, path = saved
    own, x = Mine().train(), numbers(5, 3)
    certificate = fl.port(path, own)
    assert torch.equal(own(x), source(x))
    assert own.training
    assert certificate.units() == {"0": "hidden", "2": "out"}
    assert {one.target for one in certificate.mapping} == set(own.state_dict())
    assert all(one.reason == "no other layer has this type and shape" for one in certificate.mapping)
    assert "nothing was run" in certificate.tested
    assert "Proven:" in str(certificate)


def test_golden_outputs_are_compared_and_a_wrong_one_changes_nothing(saved):
    source, path = saved
    x = numbers(5, 3)
    certificate = fl.port(path, Mine(), golden=(x, source(x).detach()))
    assert certificate.runs[0].error <= EXACT
    assert "the outputs agree with golden outputs on 5 samples" in certificate.tested
    own = Mine()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(fl.PortError, match="The module does not compute what the source network does"):
        fl.port(path, own, golden=(x, source(x).detach() + 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


def test_golden_outputs_settle_what_names_do_not(tmp_path):
    source = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    path = tmp_path / "source.safetensors"
    save_file({f"{name}.{leaf}": tensor for name, layer in (("x", source[0]), ("y", source[2]))
               for leaf, tensor in layer.state_dict().items()}, path)  # fmt: skip
    x = numbers(4, 3)

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.second(self.first(x).tanh())

    with pytest.raises(fl.AmbiguousPortError) as caught:
        fl.port(path, Turned())
    assert {"x": "first", "y": "second"} in caught.value.alternatives
    own = Turned()
    certificate = fl.port(path, own, golden=(x, source(x).detach()))
    assert certificate.units() == {"x": "first", "y": "second"}
    assert certificate.runs[0].alternatives == 2
    assert fl.port(path, Turned(), hints={"x": "first"}).units() == certificate.units()
    with pytest.raises(fl.AmbiguousPortError):  # samples that show no difference settle nothing
        fl.port(path, nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}).eval())


def test_like_refuses_values_that_are_not_certificates(saved):
    _, path = saved
    certificate = fl.port(path, Mine())
    assert fl.port(path, Mine(), like=certificate) == certificate
    with pytest.raises(fl.DataError, match="takes the certificate of an earlier port"):
        fl.port(path, Mine(), like="certificate.json")


def test_a_partial_port_is_asked_for_and_listed(saved):
    _, path = saved
    own = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 7))
    with pytest.raises(fl.PortError, match="no partner"):
        fl.port(path, own)
    certificate = fl.port(path, own, partial=True)
    assert (certificate.kept, certificate.unused) == (("2",), ("2",))
    assert "Kept:    2 (not in the file)" in str(certificate)


def test_a_path_and_a_module_are_wanted(tmp_path):
    with pytest.raises(fl.PortError, match="Cannot open the file of weights"):
        fl.port(tmp_path / "missing", Mine())
    (tmp_path / "text").write_text("hello, world")
    with pytest.raises(fl.PortError, match="The format of this file is unknown"):
        fl.port(tmp_path / "text", Mine())
    with pytest.raises(fl.DataError):
        fl.port(3, Mine())
    with pytest.raises(fl.DataError):
        fl.port(tmp_path / "text", "model")


def test_a_file_without_weights(tmp_path):
    np.savez(tmp_path / "none.npz")
    with pytest.raises(fl.PortError):
        fl.port(tmp_path / "none.npz", Mine())


CASES = sorted(path.parent for path in NETWORKS.rglob("case.json"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_networks_of_other_frameworks_compute_the_same(folder):
    case = Stored(folder.parent.name, folder.name, folder)
    inputs, outputs = case.golden("input"), tuple(case.golden("output"))
    golden = (inputs[0] if len(inputs) == 1 else tuple(inputs), outputs)
    assert case.facts["files"]
    if case.counterpart.refused:
        with pytest.raises(fl.PortError, match=r"nn.GRU cannot represent '\S+': its reset gate acts before"):
            fl.port(folder / case.facts["files"][0], case.counterpart.build(), golden=golden)
        return
    for name in case.facts["files"]:
        own = case.counterpart.build()
        certificate = fl.port(folder / name, own, golden=golden)
        assert certificate.runs[0].error <= EXACT, name


def test_there_are_networks_of_several_frameworks():
    assert len({folder.parent.name for folder in CASES}) >= 3


def test_the_example_of_the_guide_runs(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    (block,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "porting.md").read_text(), re.S)
    names = {}
    exec(block, names)
    assert "the outputs agree with golden outputs on 3 samples" in names["certificate"].tested


DEPTHWISE = NETWORKS / "keras" / "depthwise" / "model.keras"


def depthwise(kind=nn.ReLU):
    """The network of this file in other words."""
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4), kind(), nn.Conv2d(8, 4, 1)
    )


def test_a_file_with_its_architecture_brings_its_own_golden_outputs():
    certificate = fl.port(DEPTHWISE, depthwise())
    (run,) = certificate.runs
    assert run.kind == "an interpretation of the file's own graph in float64 (channels on axis 1)"
    assert (run.samples, run.alternatives) == (3, 1)
    assert run.error <= EXACT
    assert {check.status for check in certificate.checks} == {"agrees"}


def test_a_module_that_computes_something_else_is_refused_with_the_place_and_the_cause():
    own = depthwise(nn.Tanh)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(fl.PortError, match="The module does not compute what the source network does") as caught:
        fl.port(DEPTHWISE, own)
    assert "the first layer that differs is 'mix' (Conv2D) and '4' (Conv2d)" in caught.value.received
    assert "activation of '2': Tanh() in the module, 'relu' in the file" in caught.value.do
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


class Branches(nn.Module):
    """A norm of each branch, which only a run tells apart."""

    def __init__(self, eps):
        super().__init__()
        self.left, self.right = nn.LayerNorm(4, eps), nn.LayerNorm(4, eps)

    def forward(self, x):
        return self.left(x) - self.right(x)


BRANCHES = NETWORKS.parent / "interpreting" / "branches.keras"


def test_settings_are_set_on_request_and_only_where_the_outputs_agree_then():
    own = Branches(1e-5)
    with pytest.raises(fl.PortError, match="none of 2 assignments|The module does not compute") as caught:
        fl.port(BRANCHES, own)
    assert "epsilon of 'left': 1e-05 in the module, 0.5 in the file (adapt=True sets it)" in caught.value.do
    assert own.left.eps == own.right.eps == 1e-5
    certificate = fl.port(BRANCHES, own, adapt=True)
    assert own.left.eps == own.right.eps == 0.5
    assert certificate.units() == {"p": "left", "q": "right"}
    assert "Set:     epsilon of 'left', 'right': 0.5 as in the file, 1e-05 before" in str(certificate)
    other = Branches(1e-5)
    other.right.register_forward_hook(lambda module, args, output: -output)
    with pytest.raises(fl.PortError):
        fl.port(BRANCHES, other, adapt=True)
    assert other.left.eps == 1e-5


def test_a_setting_that_differs_and_was_not_run_is_named():
    own = Branches(1e-5)
    own.forward = lambda a, b: a
    certificate = fl.port(BRANCHES, own, hints={"p": "left"})
    assert certificate.runs == ()
    assert (
        "The file's graph returns outputs of shape (3, 4) for random inputs; the module takes or returns others."
        in str(certificate)
    )
    assert "the effect of another epsilon of 'left', 'right'" in certificate.unknown
    assert "Differs: epsilon of 'left', 'right': 1e-05 in the module, 0.5 in the file" in str(certificate)


@pytest.mark.parametrize("name", ["onnx/gru_reset_before", "tensorflow/tf1_gru"])
def test_grus_that_reset_before_the_product_become_the_block_that_does(name):
    framework, own = name.split("/")
    network = Stored(framework, own, NETWORKS / name)

    class Counterpart(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = ResetBeforeGRU(5, 6), nn.Linear(6, 3)

        def forward(self, x):
            steps = self.rnn(x)[0]
            return self.out(steps if outputs.ndim == 3 else steps[:, -1])

    inputs, outputs = network.golden("input")[0], network.golden("output")[0]
    model = Counterpart()
    certificate = fl.port(network.path / network.files[0], model, golden=(inputs, outputs))
    assert certificate.runs[0].error <= EXACT


class Counting(nn.Module):
    """A module whose forward leaves traces: in a buffer, and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.last: torch.Tensor | None = None

    def forward(self, x):
        self.calls += 1
        self.last = x
        return self.layer(x)


@pytest.mark.parametrize("is_right", [True, False])
def test_runs_leave_no_trace_and_need_no_plain_surroundings(tmp_path, is_right):
    source, module = nn.Linear(3, 2), Counting()
    save_file(dict(source.state_dict()), tmp_path / "a.safetensors")
    x = torch.randn(4, 3, dtype=torch.float64).numpy()
    outputs = source(torch.tensor(x).float()).detach() + (0 if is_right else 1)
    with torch.autocast("cpu"), contextlib.nullcontext() if is_right else pytest.raises(fl.PortError):
        certificate = fl.port(tmp_path / "a.safetensors", module, golden=(x, outputs))
        assert "inputs converted from float64 to float32" in certificate.notes
    assert (module.calls, module.last) == (0, None)


def test_a_conversion_is_told(tmp_path):
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "a.safetensors")
    certificate = fl.port(tmp_path / "a.safetensors", nn.Linear(3, 2).half())
    assert "2 tensors converted from float32 to float16" in certificate.notes
    assert "2 were then converted to the module's dtype" in certificate.proven


def test_a_weight_norm_of_the_file_becomes_a_plain_weight_and_the_certificate_says_so(tmp_path):
    from torch.nn.utils.parametrizations import weight_norm

    source = two_layers()
    weight_norm(source[0])
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    own, x = Mine(), numbers(5, 3)
    certificate = fl.port(tmp_path / "w.safetensors", own, golden=(x, source(x).detach()))
    assert "but 1 were computed from several tensors, which has no inverse" in certificate.proven
    assert certificate.runs[0].error <= EXACT
    assert fl.Certificate.from_dict(certificate.as_dict()) == certificate


def test_a_graph_that_stands_for_a_folder_is_run(tmp_path):
    graph = NETWORKS.parent / "onnx" / "half_folded.onnx"
    (tmp_path / "model.onnx").write_bytes(graph.read_bytes())
    certificate = fl.port(tmp_path, nn.LSTM(1030, 2, batch_first=True))
    assert certificate.file == str(tmp_path / "model.onnx")
    assert certificate.notes[0] == "Of the folder, model.onnx was read."
    beside = fl.port(graph, nn.LSTM(1030, 2, batch_first=True))
    assert [run.kind for run in certificate.runs] == [run.kind for run in beside.runs]
    with pytest.raises(fl.PortError, match=re.escape(str(tmp_path / "model.onnx"))):
        fl.port(tmp_path, nn.LSTM(9, 2))


@pytest.mark.parametrize("name", ["to", "train", "eval", "float", "type", "children", "apply", "modules", "state_dict"])
def test_a_layer_may_have_the_name_of_a_method(tmp_path, name):
    source = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).eval()
    save_file(source.state_dict(), tmp_path / "source.safetensors")

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            setattr(self, name, nn.Linear(4, 8))
            self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.norm(self._modules[name](x)).relu())

    values = torch.rand(5, 4)
    certificate = fl.port(tmp_path / "source.safetensors", own := Own(), golden=(values, source(values).detach()))
    assert certificate.units()["0"] == name
    assert torch.equal(own._modules[name].weight, source[0].weight)
