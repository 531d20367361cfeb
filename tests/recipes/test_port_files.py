import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import frostline as fl
from frostline.recipes.port_files import list_tensors, port_to_file

GIVEN = {"golden": None, "partial": False, "adapt": False, "hints": None, "key": None}


def own():
    return nn.ModuleDict({"out": nn.Linear(4, 2), "hidden": nn.Linear(3, 4)})


@pytest.fixture
def ported(tmp_path):
    source = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    save_file(source.state_dict(), tmp_path / "source.safetensors")
    out = tmp_path / "new" / "own.safetensors"
    report = port_to_file(str(tmp_path / "source.safetensors"), own(), to="nets:own", out=str(out), **GIVEN)
    return source, report, tmp_path


def test_weights_and_certificate_lie_side_by_side(ported):
    source, report, folder = ported
    saved = load_file(folder / "new" / "own.safetensors")
    assert torch.equal(saved["hidden.weight"], source[0].weight)
    assert report.certificate.to == "nets:own"
    assert "Saved:   " in report.text()
    assert json.loads((folder / "new" / "own.json").read_text())["model"] == "nets:own"


def test_a_listing_reads_no_array(ported):
    listing = list_tensors(str(ported[2] / "source.safetensors"))
    assert listing.framework == "torch"
    assert ("0.weight", "float32", (4, 3), "0: weight") in listing.tensors


def test_hints_are_json(ported):
    source, folder = str(ported[2] / "source.safetensors"), ported[2]
    given = {**GIVEN, "hints": '{"0": "hidden"}'}
    report = port_to_file(source, own(), to="", out=str(folder / "b.safetensors"), **given)
    assert report.certificate.mapping[0].reason == "your hint"
    (folder / "hints.json").write_text('{"0": "hidden"}')
    port_to_file(
        source, own(), to="", out=str(folder / "c.safetensors"), **{**GIVEN, "hints": str(folder / "hints.json")}
    )
    for wrong in ("{", "[1]", str(folder / "missing.json")):
        with pytest.raises(fl.DataError, match="Hints are a mapping from layers of the file to layers of the module"):
            port_to_file(source, own(), to="", out=str(folder / "d.safetensors"), **{**GIVEN, "hints": wrong})


@pytest.mark.parametrize("used", ["b.safetensors", "b.json", "b.certificate.json"])
def test_files_that_are_there_are_not_replaced(ported, used):
    folder = ported[2]
    (folder / used).write_text("mine")
    with pytest.raises(fl.DataError, match="exists already, and is not replaced"):
        port_to_file(str(folder / "source.safetensors"), own(), to="", out=str(folder / "b.safetensors"), **GIVEN)
    assert [path.read_text() for path in folder.glob("b.*")] == ["mine"]


def test_weights_are_saved_as_safetensors(ported):
    with pytest.raises(fl.DataError, match="Ported weights are saved as safetensors"):
        port_to_file(str(ported[2] / "source.safetensors"), own(), to="", out="a.pt", **GIVEN)
