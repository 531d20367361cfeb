"""What `frostline port --check` compares, and what it refuses: one test for each way in which things change."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import frostline as fl
from exams.porting.stored import Stored
from frostline.porting.certificate import Certificate, Check
from frostline.recipes.port_files import port_to_file
from frostline.recipes.port_replay import check_certificate, read_certificate
from helpers_porting import numbers

FILES = Path(__file__).parents[1] / "porting" / "files"
GIVEN = {"golden": None, "partial": False, "adapt": False, "hints": None, "key": None}


def own(*, width=4):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def ported_to(folder, source, model, **given):
    report = port_to_file(str(source), model, to="nets:own", out=str(folder / "new" / "own.safetensors"),
                          **{**GIVEN, **given})  # fmt: skip
    return report.certificate_path


@pytest.fixture
def ported(tmp_path):
    source = tmp_path / "source.safetensors"
    save_file(own().state_dict(), source)
    return source, ported_to(tmp_path, source, own())


def edited(path, **fields):
    """The certificate with other entries, and the digest that belongs to them."""
    made = replace(read_certificate(path), **fields)
    Path(path).write_text(json.dumps(made.as_dict()))


def test_an_untouched_port_comes_out_again(ported):
    source, path = ported
    replay = check_certificate(path, own())
    assert (replay.file, replay.tensors, replay.files) == (str(source), 4, 2)
    assert replay.text().endswith("all 2 files have the digests of the certificate, and all 4 tensors of the module "
                                  "have the same values as then; nothing was run then.")  # fmt: skip


def test_the_source_may_lie_elsewhere(ported, tmp_path):
    source, path = ported
    moved = tmp_path / "moved.safetensors"
    source.rename(moved)
    with pytest.raises(fl.PortError, match="Cannot open"):
        check_certificate(path, own())
    assert check_certificate(path, own(), str(moved)).file == str(moved)


def test_another_source_is_refused(ported):
    source, path = ported
    save_file({name: tensor + 1 for name, tensor in load_file(source).items()}, source)
    with pytest.raises(fl.PortError, match="The file of weights is not the one of the certificate") as caught:
        check_certificate(path, own())
    assert caught.value.where == str(source)


def test_other_saved_weights_are_refused(ported):
    _, path = ported
    saved = Path(path).with_name("own.safetensors")
    save_file({name: tensor + 1 for name, tensor in load_file(saved).items()}, saved)
    with pytest.raises(fl.PortError, match="The saved weights are not those of the certificate"):
        check_certificate(path, own())
    saved.unlink()
    with pytest.raises(fl.PortError, match="The saved weights are not those") as caught:
        check_certificate(path, own())
    assert caught.value.received.startswith("digest of no file")


@pytest.mark.parametrize("name", ["../source.safetensors", "/etc/hostname", ".."])
def test_a_certificate_names_saved_weights_beside_itself_only(ported, name):
    _, path = ported
    edited(path, weights={name: "0" * 64})
    with pytest.raises(fl.PortError, match="The saved weights are not those") as caught:
        check_certificate(path, own())
    assert "of no file" in caught.value.received


def test_a_module_of_other_shapes_is_refused(ported):
    _, path = ported
    with pytest.raises(fl.PortError, match="The module is not the one whose weights were saved") as caught:
        check_certificate(path, own(width=5))
    assert "(5,) in the module, (4,) in the file" in caught.value.received
    edited(path, weights={})
    with pytest.raises(fl.PortError, match="A hint pairs layers that do not fit"):
        check_certificate(path, own(width=5))


def test_a_new_head_of_another_size_is_refused(tmp_path):
    source = tmp_path / "source.safetensors"
    save_file(own().state_dict(), source)
    build = lambda classes: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, classes))  # noqa: E731
    path = ported_to(tmp_path, source, build(7), partial=True)
    assert check_certificate(path, build(7)).tensors == 2
    with pytest.raises(fl.PortError, match="The module is not the one"):
        check_certificate(path, build(9))


def test_other_layout_rules_are_refused(ported):
    _, path = ported
    edited(path, rules=0)
    with pytest.raises(fl.PortError, match="The certificate was written with another version of the layout rules"):
        check_certificate(path, own())


def test_an_edited_certificate_is_refused(ported):
    _, path = ported
    values = json.loads(Path(path).read_text())
    for change in ({"proven": "everything."}, {"runs": [{"kind": "golden outputs", "samples": 9, "error": 0.0,
                                                         "tolerance": 1e-5, "alternatives": 1}]}):  # fmt: skip
        Path(path).write_text(json.dumps(values | change))
        with pytest.raises(fl.DataError, match="This is not the certificate of a port") as caught:
            check_certificate(path, own())
        assert "it was edited after it was written" in caught.value.received


def test_a_mapping_that_does_not_come_out_again_is_refused(ported):
    _, path = ported
    then = read_certificate(path)
    first = then.mapping[0]
    for other in (replace(first, sha256="0" * 64), replace(first, layout="mirrored"), replace(first, sources=("x",))):
        edited(path, mapping=(other, *then.mapping[1:]))
        with pytest.raises(fl.PortError, match="The port has other results than its certificate") as caught:
            check_certificate(path, own())
        assert "1 of 4 tensors" in caught.value.received
    edited(path, mapping=then.mapping, dropped={"m": "optimizer slot"})
    with pytest.raises(fl.PortError, match="has other results") as caught:
        check_certificate(path, own())
    assert caught.value.where.endswith(": dropped")


def in_shards(folder):
    """The weights in two files and an index of them."""
    state, places = own().state_dict(), {}
    for at, layer in enumerate("02"):
        part = {name: tensor for name, tensor in state.items() if name.startswith(layer)}
        save_file(part, folder / f"{at}.safetensors")
        places |= dict.fromkeys(part, f"{at}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder / "model.safetensors.index.json"


def of_tensorflow(folder):
    shutil.copytree(FILES / "networks" / "tensorflow" / "tf1_lstm", folder / "source")
    return next((folder / "source").rglob("*.index"))


def lstm():
    folder = FILES / "networks" / "tensorflow" / "tf1_lstm"
    return Stored("tensorflow", folder.name, folder).counterpart.build()


@pytest.mark.parametrize(("source", "build", "num_parts"), [(in_shards, own, 2), (of_tensorflow, lstm, 1)])
def test_every_file_that_was_read_is_compared(tmp_path, source, build, num_parts):
    main = source(tmp_path)
    path = ported_to(tmp_path, main, build())
    parts = read_certificate(path).files
    assert len(parts) == num_parts
    assert check_certificate(path, build()).files == 2 + num_parts
    for part in parts:
        content = (main.parent / part).read_bytes()
        (main.parent / part).write_bytes(content + b"\0")
        with pytest.raises(fl.PortError, match="not the one of the certificate") as caught:
            check_certificate(path, build())
        assert caught.value.where == str(main.parent / part)
        (main.parent / part).unlink()
        with pytest.raises(fl.PortError, match="not the one of the certificate") as caught:
            check_certificate(path, build())
        assert "digest of no file" in caught.value.received
        (main.parent / part).write_bytes(content)
    assert check_certificate(path, build()).tensors > 0


def test_a_file_that_was_not_there_then_is_noticed(tmp_path):
    path = ported_to(tmp_path, main := in_shards(tmp_path), own())
    then = read_certificate(path)
    edited(path, files={name: digest for name, digest in then.files.items() if name != "0.safetensors"})
    with pytest.raises(fl.PortError, match="has other results") as caught:
        check_certificate(path, own())
    assert caught.value.where.endswith(": files")
    assert main.is_file()


def test_outputs_are_compared_again_where_they_can_be(tmp_path):
    source = tmp_path / "source.safetensors"
    first, x = own(), numbers(5, 3)
    save_file(first.state_dict(), source)
    golden = (x, first(x).detach())
    made = fl.port(source, own(), golden=golden)
    path = tmp_path / "c.certificate.json"
    path.write_text(json.dumps(made.as_dict()))
    assert "not compared again: pass --verify" in check_certificate(str(path), own()).text()
    assert "the outputs agree again with golden outputs" in check_certificate(str(path), own(), golden=golden).text()
    with pytest.raises(fl.PortError, match="does not compute"):
        check_certificate(str(path), own(), golden=(x, golden[1] + 1))


BRANCHES = FILES / "interpreting" / "branches.keras"


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.LayerNorm(4), nn.LayerNorm(4)

    def forward(self, x):
        return self.left(x) - self.right(x)


def test_settings_that_only_outputs_settle_may_be_unknown_again(tmp_path):
    filled, other, x = Branches(), Branches(), numbers(4, 4)
    fl.port(BRANCHES, filled, adapt=True)
    other.load_state_dict(filled.state_dict())  # with an epsilon of its own
    golden = (x, other(x).detach())
    made = fl.port(BRANCHES, Branches(), golden=golden)
    path = tmp_path / "c.certificate.json"
    path.write_text(json.dumps(made.as_dict()))
    assert "not compared again" in check_certificate(str(path), Branches()).outputs
    assert "agree again" in check_certificate(str(path), Branches(), golden=golden).outputs
    edited(path, checks=(Check("left", "epsilon", "agrees", "1e-05"), *made.checks))
    with pytest.raises(fl.PortError, match="has other results") as caught:
        check_certificate(str(path), Branches())
    assert caught.value.where.endswith(": checks")


def test_samples_without_outputs_are_not_needed_again(tmp_path):
    source, samples = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=1.0)), numbers(64, 3)
    source(samples)
    save_file(source.state_dict(), tmp_path / "source.safetensors")
    build = lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))  # noqa: E731
    made = fl.port(tmp_path / "source.safetensors", build(), golden=(samples, None))
    assert made.checks
    path = tmp_path / "c.certificate.json"
    path.write_text(json.dumps(made.as_dict()))
    assert check_certificate(str(path), build()).tensors == 7


def test_settings_that_were_set_are_set_again(tmp_path):
    path = ported_to(tmp_path, BRANCHES, Branches(), adapt=True)
    assert read_certificate(path).is_adapted
    assert "agree again with an interpretation of the file's own graph" in check_certificate(path, Branches()).text()


def test_the_entry_that_was_asked_for_is_taken_again(tmp_path):
    source = tmp_path / "both.pt"
    torch.save({"state_dict": own().state_dict(), "ema": own().state_dict()}, source)
    path = ported_to(tmp_path, source, own(), key="ema")
    assert read_certificate(path).key == "ema"
    assert check_certificate(path, own()).tensors == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 2, "mapping": [{"a": 1}]}', "3"])
def test_anything_else_is_no_certificate(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(fl.DataError, match="This is not the certificate of a port"):
        read_certificate(str(tmp_path / "c.json"))


def test_a_certificate_comes_back(ported):
    _, path = ported
    assert isinstance(read_certificate(path), Certificate)
    assert json.loads(json.dumps(read_certificate(path).as_dict())) == json.loads(Path(path).read_text())
