import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import frostline as fl
from frostline.recipes.port_files import check_certificate, list_tensors, port_to_file, read_certificate

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


def test_a_certificate_comes_back_and_is_checked(ported):
    _, report, folder = ported
    assert read_certificate(report.certificate_path) == report.certificate
    replay = check_certificate(report.certificate_path, own())
    assert replay.tensors == 4
    assert "come out of it as they did" in replay.text()
    save_file({name: tensor + 1 for name, tensor in load_file(folder / "source.safetensors").items()},
              folder / "other.safetensors")  # fmt: skip
    with pytest.raises(fl.PortError, match="The file of weights is not the one of the certificate"):
        check_certificate(report.certificate_path, own(), str(folder / "other.safetensors"))


def test_a_port_that_comes_out_otherwise_is_noticed(ported):
    _, report, _ = ported
    path = Path(report.certificate_path)
    values = json.loads(path.read_text())
    values["mapping"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(values))
    with pytest.raises(fl.PortError, match="The port comes out otherwise than the certificate says") as caught:
        check_certificate(report.certificate_path, own())
    assert "1 of 4 tensors" in caught.value.received


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "mapping": [{"a": 1}]}'])
def test_anything_else_is_no_certificate(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(fl.DataError, match="This is not the certificate of a port"):
        read_certificate(str(tmp_path / "c.json"))


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
        source, own(), to="", out=str(folder / "b.safetensors"), **{**GIVEN, "hints": str(folder / "hints.json")}
    )
    for wrong in ("{", "[1]", str(folder / "missing.json")):
        with pytest.raises(fl.DataError, match="Hints are a mapping from layers of the file to layers of the module"):
            port_to_file(source, own(), to="", out=str(folder / "b.safetensors"), **{**GIVEN, "hints": wrong})


def test_weights_are_saved_as_safetensors(ported):
    with pytest.raises(fl.DataError, match="Ported weights are saved as safetensors"):
        port_to_file(str(ported[2] / "source.safetensors"), own(), to="", out="a.pt", **GIVEN)
