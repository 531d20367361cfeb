import builtins
import importlib
import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import frostline as fl
from frostline.cli.main import app
from frostline.recipes.save import save_model

recipe = importlib.import_module("frostline.recipes.export")

NETS = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
                         nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))

class Output(dict):
    logits = property(lambda self: self["logits"])

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Embedding(5, 4), nn.Linear(12, 3)
    def forward(self, x):
        return Output(logits=self.head(self.body(x).flatten(1)))

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
    def forward(self, x):
        return self.head(x) if float(x.sum()) > 0 else self.head(-x)

class Foreign(Fixed):
    def forward(self, x):
        return torch.linalg.eigvals(torch.diag_embed(self.head(x))).real
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Makes the folder of a run of one of these networks, with weights and statistics that are not those of a start."""
    (tmp_path / "nets_to_export.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "nets_to_export", raising=False)
    monkeypatch.chdir(tmp_path)

    def made(name, shape, dtype="float32", **facts):
        model = getattr(importlib.import_module("nets_to_export"), name)()
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.copy_(torch.rand_like(tensor) + 0.1 if tensor.is_floating_point() else tensor)
        known = {"model": f"nets_to_export:{name}", "classes": ["a", "b", "c"], "best_epoch": 1}
        return save_model(model, tmp_path / name, {**known, "input": {"shape": shape, "dtype": dtype}, **facts}).parent

    return made


def run_onnx(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"inputs": inputs.numpy()})[0])


def run_torch(path, inputs):
    return torch.export.load(path).module()(inputs)


@pytest.mark.parametrize(
    ("name", "kind", "runs_it"), [("m.pt2", "torch.export", run_torch), ("m.onnx", "ONNX", run_onnx)]
)
def test_the_file_computes_what_the_model_computes_for_any_batch(runs, tmp_path, name, kind, runs_it):
    loaded = fl.load(runs("net", [3, 8, 8]))
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    path = tmp_path / "new" / name
    state = torch.get_rng_state()
    made = fl.export(loaded, path)
    assert torch.equal(state, torch.get_rng_state())
    assert (made.format, made.folded, made.shape) == (kind, ("1",), (3, 8, 8))
    assert made.kept == ("4: no linear or convolution layer feeds it; no layer takes its output alone",)
    assert made.largest_difference < 1e-6
    assert made.size_bytes == path.stat().st_size
    for size in (1, 4, 9):
        inputs = torch.randn(size, 3, 8, 8)
        wanted = loaded.model(inputs).detach()
        torch.testing.assert_close(runs_it(path, inputs), wanted, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())
    assert isinstance(loaded.model[1], nn.BatchNorm2d)
    text = str(made)
    assert "1 BatchNorms folded, 1 kept" in text
    assert "inputs (batch, 3, 8, 8)" in text
    assert "samples of noise" in text
    assert [own.name for own in path.parent.iterdir()] == [name]


def test_the_file_says_its_classes_and_how_images_are_prepared(runs, tmp_path):
    run = runs("net", [3, 8, 8], images={"crop": {"size": 8}})
    fl.export(run, "m.onnx")
    proto = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    about = json.loads(proto.get_modelmeta().custom_metadata_map["frostline"])
    assert about["classes"] == ["a", "b", "c"]
    assert about["images"] == {"crop": {"size": 8}}
    assert about["preparation"].startswith("CenterCrop(size=8")
    assert proto.get_inputs()[0].shape == ["batch", 3, 8, 8]
    assert proto.get_outputs()[0].shape == ["batch", 3]
    fl.export(run, "m.pt2")
    extra = {"frostline": ""}
    torch.export.load("m.pt2", extra_files=extra)
    assert json.loads(extra["frostline"]) == about


def test_outputs_with_names_and_whole_numbers_as_inputs(runs):
    run = runs("Named", [3], "int64", head="head")
    made = fl.export(run, "m.onnx")
    assert made.folded == made.kept == ()
    words = torch.tensor([[0, 4, 2]])
    torch.testing.assert_close(run_onnx("m.onnx", words), fl.load(run).model(words).logits.detach())


def test_samples_of_ones_own_are_compared(runs, tmp_path):
    run = runs("net", None)
    with pytest.raises(fl.DataError, match="The shape of the inputs of this run is not known") as error:
        fl.export(run, "m.pt2")
    assert "--data" in error.value.do
    np.savez("x.npz", x=np.random.rand(2, 3, 8, 8).astype(np.float32))
    assert "samples of x.npz" in str(fl.export(run, "m.pt2", data="x.npz"))
    result = CliRunner().invoke(app, ["export", str(run), "--data", "x.npz", "--json"])
    assert json.loads(result.stdout)["path"] == str(run / "model.pt2")
    assert (run / "model.pt2").is_file()


def test_samples_that_the_model_does_not_take_are_refused(runs):
    np.savez("x.npz", x=np.random.rand(2, 5, 8, 8).astype(np.float32))
    with pytest.raises(fl.DataError, match="The model does not take these samples") as error:
        fl.export(runs("net", [3, 8, 8]), "m.pt2", data="x.npz")
    assert error.value.received.startswith("inputs (2, 5, 8, 8); ")


def test_a_used_path_and_another_format_are_refused(runs, tmp_path):
    run = runs("net", [3, 8, 8])
    (tmp_path / "used.pt2").write_text("mine")
    with pytest.raises(fl.DataError, match="exists already, and is not replaced"):
        fl.export(run, "used.pt2")
    assert (tmp_path / "used.pt2").read_text() == "mine"
    with pytest.raises(fl.DataError, match="format of an exported model follows from the ending") as error:
        fl.export(run, "model.pth")
    assert error.value.do == "write model.pt2 for torch.export, or model.onnx for ONNX."


def test_what_appears_meanwhile_is_not_replaced(runs, tmp_path, monkeypatch):
    run = runs("net", [3, 8, 8])
    own = recipe.publish_new
    monkeypatch.setattr(recipe, "publish_new", lambda path, chunks: path.write_text("theirs") and own(path, chunks))
    with pytest.raises(fl.DataError, match="exists already, and is not replaced"):
        fl.export(run, "m.pt2")
    assert (tmp_path / "m.pt2").read_text() == "theirs"


def test_a_model_that_reads_values_cannot_be_exported(runs, tmp_path):
    with pytest.raises(fl.DataError, match="cannot be exported for batches of any size"):
        fl.export(runs("Fixed", [4], head="head"), "m.pt2")
    assert not (tmp_path / "m.pt2").exists()


def test_an_operation_that_onnx_lacks_is_told(runs, tmp_path):
    run = runs("Foreign", [4], head="head")
    with pytest.raises(fl.DataError, match="The model cannot be converted to ONNX"):
        fl.export(run, "m.onnx")
    assert not list(tmp_path.glob("m.onnx*"))


def test_a_file_that_computes_something_else_is_not_written(runs, tmp_path, monkeypatch):
    run = runs("net", [3, 8, 8])
    for wrong in (lambda inputs: torch.zeros(len(inputs), 3), lambda inputs: torch.zeros(1)):
        monkeypatch.setattr(recipe, "_torch_file", lambda program, about, wrong=wrong: (b"x", wrong))
        with pytest.raises(fl.DataError, match="does not compute what the model computes; it was not written"):
            fl.export(run, "m.pt2")
    assert not list(tmp_path.glob("m.pt2*"))


def test_where_folding_changes_the_outputs_all_norms_stay(runs, monkeypatch):
    own = recipe.fold_batchnorm
    monkeypatch.setattr(recipe, "fold_batchnorm", lambda model, inputs: own(model, inputs, tolerance=0))
    made = fl.export(runs("net", [3, 8, 8]), "m.pt2")
    assert made.folded == ()
    assert [reason.split(":")[0] for reason in made.kept] == ["1", "4"]
    assert "outputs differ by" in made.kept[0]


def test_missing_packages_are_named(runs, monkeypatch):
    run = runs("net", [3, 8, 8])
    own = builtins.__import__

    def without(name, *rest):
        if name == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'")
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(fl.DataError, match="Packages that write and run ONNX are not installed") as error:
        fl.export(run, "m.onnx")
    assert "frostline[export]" in error.value.do


def test_nothing_is_printed(runs, capfd):
    fl.export(runs("net", [3, 8, 8]), "m.onnx")
    assert capfd.readouterr() == ("", "")
