"""`--weights` of the three commands: files of every framework, through one door."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import frostline as fl
import helpers_pretrained as nets
from frostline.cli.main import app
from frostline.recipes.port_files import port_to_file
from frostline.recipes.port_replay import check_certificate
from frostline.recipes.pretrained import load_pretrained
from frostline.recipes.save import about, save_model

FILES = Path(__file__).parents[1] / "porting" / "files"
CLASSES = ("a", "b", "c")
CASES = {
    "Keras": (FILES / "networks" / "keras" / "conv2d" / "model.weights.h5", (3, 12, 12), 8, "nothing was run"),
    "onnx": (FILES / "networks" / "onnx" / "square_dense" / "model.onnx", (8,), 8, "agree with ONNX Runtime"),
    "tensorflow": (FILES / "tensorflow" / "saved_tfkeras", (2, 6, 6), 13,
                   "agree with an interpretation of the file's own graph"),
    "Flax": (FILES / "averages" / "flax.msgpack", (2, 6, 7), 9, "nothing was run"),
}  # fmt: skip
COMMANDS = {
    "fit": lambda data, model: ("fit", data, "--model", model, "--epochs", 1, "--no-cache", "--out", data.parent / "o"),
    "inspect": lambda data, model: ("inspect", data, "--model", model),
    "checkup": lambda data, model: ("checkup", model, data, "--steps", 5),
}


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def arrays(folder, shape):
    """Samples that a network of this input shape takes."""
    path = folder / "data.npz"
    x = np.random.default_rng(0).normal(size=(24, *shape)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(24) % 3)
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", CASES)
def test_every_command_takes_files_of_other_frameworks(tmp_path, case, command):
    file, shape, num_tensors, tested = CASES[case]
    given = COMMANDS[command](arrays(tmp_path, shape), f"helpers_pretrained:{case}")
    certificate = tmp_path / "c.json"
    found = json.loads(run(*given, "--weights", file, "--certificate", certificate, "--json").stdout)["reused"]
    assert found.startswith(f"{num_tensors} tensors of ")
    assert f" layers ported from {file} (" in found
    assert ": each was written once, and the inverse of its layout reproduces the file's bytes; " in found
    assert tested in found
    assert found.endswith(f"; certificate: {certificate}")
    assert check_certificate(str(certificate), getattr(nets, case)()).tensors == num_tensors


@pytest.mark.parametrize("command", COMMANDS)
def test_people_are_told_in_one_line(tmp_path, command):
    file, shape, *_ = CASES["onnx"]
    given = COMMANDS[command](arrays(tmp_path, shape), "helpers_pretrained:onnx")
    (line,) = [one for one in run(*given, "--weights", file).stdout.splitlines() if one.startswith("Reused:")]
    assert "8 tensors of 4 layers ported from" in line
    assert "certificate" not in line


@pytest.mark.parametrize("case", CASES)
def test_layers_compute_what_the_port_into_the_network_computes(case):
    file = CASES[case][0]
    whole, own = getattr(nets, case)(), getattr(nets, case)()
    fl.port(file, whole)
    head, _ = load_pretrained(own, str(file), CLASSES, spec=case)
    assert head.out_features == 3
    own_state, whole_state = own.state_dict(), whole.state_dict()
    new = [name for name in own_state if not torch.equal(own_state[name], whole_state[name])]
    assert len(new) == 2  # weight and bias of the head
    assert {own_state[name].shape[0] for name in new} == {3}


HOSTILE = {
    "text": b"hello, world",
    "empty": b"",
    "truncated": (FILES / "networks" / "onnx" / "square_dense" / "model.onnx").read_bytes()[:700],
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "pickle": b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
    "zip": b"PK\x03\x04" + bytes(100),
    "msgpack": b"\x81\xa1a" + b"\x81\xa1a" * 5_000,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_nothing_is_trained(tmp_path, kind, command):
    (tmp_path / "w.keras").write_bytes(HOSTILE[kind])
    given = COMMANDS[command](arrays(tmp_path, (8,)), "helpers_pretrained:onnx")
    error = json.loads(run(*given, "--weights", tmp_path / "w.keras", "--json", code=1).stdout)["error"]
    assert str(tmp_path / "w.keras") in error["where"]
    assert "frostline port" not in error["do"]
    assert not (tmp_path / "o" / "model.safetensors").exists()


def test_what_is_left_open_is_refused_with_the_command_that_settles_it(tmp_path):
    source = nets.Twins()
    arrays_of = {}
    for index, name in enumerate(("fc", "a", "b")):
        layer = getattr(source, name)
        arrays_of[f"params/{'xyz'[index]}/kernel"] = layer.weight.detach().numpy().T
        arrays_of[f"params/{'xyz'[index]}/bias"] = layer.bias.detach().numpy()
    file = tmp_path / "w.npz"
    np.savez(file, **arrays_of)
    own = nets.Twins()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(fl.AmbiguousPortError) as caught:
        load_pretrained(own, str(file), CLASSES, spec="nets:Twins")
    assert caught.value.do.endswith(
        f" On the command line: frostline port {file} --to nets:Twins --verify golden.npz --out model.safetensors; "
        "then --weights model.safetensors."
    )
    assert caught.value.alternatives
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


@pytest.mark.parametrize(
    ("case", "model", "option"),
    [("onnx", nets.onnx_with_another_head, "--partial"), ("onnx", nets.onnx_of_other_activations, None),
     ("tensorflow", nets.tensorflow_with_another_epsilon, "--adapt")],
)  # fmt: skip
def test_a_network_that_is_not_that_of_the_file_is_refused_with_the_option_that_helps(case, model, option):
    with pytest.raises(fl.PortError) as caught:
        load_pretrained(model(), str(CASES[case][0]), CLASSES, spec="m:f")
    told = f" --to m:f {option} --out model.safetensors; then --weights model.safetensors."
    assert told in caught.value.do if option else "frostline port" not in caught.value.do


def test_the_command_of_the_remedy_works(tmp_path):
    out = tmp_path / "model.safetensors"
    spec = "helpers_pretrained:tensorflow_with_another_epsilon"
    run("port", CASES["tensorflow"][0], "--to", spec, "--adapt", "--out", out)
    given = COMMANDS["inspect"](arrays(tmp_path, (2, 6, 6)), spec)
    assert "tensors copied" in json.loads(run(*given, "--weights", out, "--json").stdout)["reused"]


def test_weights_of_pytorch_are_copied_by_name(tmp_path):
    source = nets.onnx()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    own = nets.onnx()
    _, line = load_pretrained(own, str(tmp_path / "w.safetensors"), CLASSES, spec="m:f")
    assert line == f"8 tensors copied, 0 new, 0 skipped from {tmp_path / 'w.safetensors'}"
    assert torch.equal(own[0].weight, source[0].weight)
    with pytest.raises(fl.DataError, match="Only a port has a certificate"):
        load_pretrained(own, str(tmp_path / "w.safetensors"), CLASSES, spec="m:f", certificate="c.json")
    assert load_file(tmp_path / "w.safetensors").keys() == source.state_dict().keys()


def test_names_that_differ_are_not_guessed(tmp_path):
    save_file(nets.Twins().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused") as caught:
        load_pretrained(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), str(tmp_path / "w.safetensors"), CLASSES,
                        spec="m:f")  # fmt: skip
    assert f"If only the names differ: frostline port {tmp_path / 'w.safetensors'} --to m:f" in caught.value.do


def test_a_certificate_replaces_nothing_but_a_certificate(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"weights")
    with pytest.raises(fl.DataError, match="A file of this name exists already, and is not replaced"):
        load_pretrained(nn.Linear(2, 2), str(path), CLASSES, spec="m:f", certificate=str(path))
    assert path.read_bytes() == b"weights"


def test_a_certificate_needs_weights(tmp_path):
    given = COMMANDS["inspect"](arrays(tmp_path, (8,)), "helpers_pretrained:onnx")
    error = json.loads(run(*given, "--certificate", tmp_path / "c.json", "--json", code=1).stdout)["error"]
    assert error["what"] == "There is nothing to certify: no weights are given."


@pytest.mark.parametrize("value", [0.5, "much"])
def test_settings_that_a_port_set_come_with_the_weights_that_it_saved(tmp_path, value):
    """Epsilon is no weight: without it, weights that were ported rightly compute something else."""
    saved = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    save_model(saved, tmp_path, {"model": "m:f", "settings": {"1.eps": 0.5}}, name="w")
    own = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    _, line = load_pretrained(own, str(tmp_path / "w.safetensors"), CLASSES, spec="m:f")
    assert own[1].eps == 0.5
    assert line.endswith("settings changed for these weights: 1.eps = 0.5, 1e-05 before")
    for place in ("1.gain", "9.eps", "0.weight"):
        save_model(saved, tmp_path, {"settings": {place: value}}, name="w")
        with pytest.raises(fl.DataError, match="ported with a setting that the model does not have"):
            load_pretrained(own, str(tmp_path / "w.safetensors"), CLASSES, spec="m:f")


def test_a_port_with_adapt_saves_its_settings(tmp_path):
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.LayerNorm(4), nn.LayerNorm(4)

        def forward(self, x):
            return self.left(x) - self.right(x)

    source, out = FILES / "interpreting" / "branches.keras", tmp_path / "w.safetensors"
    given = {"golden": None, "partial": False, "hints": None, "key": None}
    report = port_to_file(str(source), Norm(), to="m:f", out=str(out), adapt=True, **given)
    settings = report.certificate.settings()
    assert settings
    assert all(name.endswith(".eps") for name in settings)
    assert "set them wherever the weights are loaded" in report.text()
    assert about(out)["settings"] == settings
