import io
import struct
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.readers import torch_archive
from frostline.porting.readers.weight_file import WeightFile
from porting.pickle_damage import outcomes
from porting.torch_files import Small, check, hand_made, pickled, read, refused, saved


def test_a_state_dict(tmp_path):
    torch.manual_seed(0)
    state = Small().state_dict()
    found, source = read(saved(tmp_path, state))
    check(found, source, state)
    assert (source.format, source.framework, source.order, source.notes) == ("PyTorch weights", "torch", "file", ())
    assert [(one.unit, one.leaf) for one in source.tensors][:2] == [("first/0", "weight"), ("first/0", "bias")]


FILES = Path(__file__).parents[1] / "files" / "torch"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, protocol):
    state = Small().state_dict()
    check(*read(saved(tmp_path, state, pickle_protocol=protocol)), state)


def test_tied_weights_are_told(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    found, source = read(saved(tmp_path, model.state_dict()))
    assert torch.equal(found["0.weight"], found["1.weight"])
    assert source.notes == ("1 tensors share their storage with another one: '1.weight' with '0.weight'.",)


@pytest.mark.filterwarnings("ignore")
def test_a_script_module_is_read_and_not_run(tmp_path):
    model = Small().eval()
    torch.jit.script(model).save(tmp_path / "a.pt")
    found, source = read(tmp_path / "a.pt")
    assert source.format == "TorchScript module"
    assert "neither read nor run" in source.notes[0]
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], one) for name, one in model.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_frozen_script_module_has_its_weights_among_its_constants(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).eval()
    torch.jit.freeze(torch.jit.script(model)).save(tmp_path / "a.pt")
    found, _ = read(tmp_path / "a.pt")
    assert all(name.startswith("CONSTANTS.c") for name in found)
    assert {tuple(one.flatten().tolist()) for one in found.values()} >= {
        tuple(one.flatten().tolist()) for one in model.state_dict().values()
    }


@pytest.mark.filterwarnings("ignore")
def test_a_script_module_without_tensors_is_refused(tmp_path):
    torch.jit.script(nn.ReLU()).save(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "The file contains code and no tensors")


def test_a_module_is_code_and_its_name_is_told(tmp_path):
    error = refused(saved(tmp_path, Small()), "contains more than data", name="Small, which was not called")
    assert "state_dict()" in error.do


def test_a_pickle_made_by_hand(tmp_path):
    found, _ = read(hand_made(tmp_path / "a.pt", pickled(), struct.pack("<4f", 1, 2, 3, 4)))
    assert found["w"].tolist() == [1, 2, 3, 4]
    found, _ = read(hand_made(tmp_path / "a.pt", pickled(), struct.pack(">4f", 1, 2, 3, 4), byteorder=b"big"))
    assert found["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "persistent",
    [b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x001X\3\0\0\0cpuK\4tQ",
     b"(X\7\0\0\0storagectorch\nFloatStorage\nX\6\0\0\0../../X\3\0\0\0cpuK\4tQ",
     b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\5tQ",
     b"(X\7\0\0\0storagectorch\nDoubleStorage\nX\1\0\0\x000X\3\0\0\0cpuK\4tQ",
     b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu\x8a\x09" + b"\1" * 9 + b"tQ",
     b"(X\7\0\0\0storagectorch\nFloatStorage\nK\0X\3\0\0\0cpuK\4tQ", b"(X\7\0\0\0storagetQ", b"NQ", b"N",
     b"(X\7\0\0\0storagectorch\nSize\nX\1\0\0\x000X\3\0\0\0cpuK\4tQ"],
)  # fmt: skip
def test_memories_that_are_not_in_the_archive(tmp_path, persistent):
    refused(hand_made(tmp_path / "a.pt", pickled(persistent)), "damaged")


def test_archives_that_contradict_themselves(tmp_path):
    path = tmp_path / "a.pt"
    refused(hand_made(path, pickled() + b"more"), "damaged", name="after the end of data.pkl")
    refused(hand_made(path, pickled(), byteorder=b"middle"), "damaged")
    with zipfile.ZipFile(hand_made(path, pickled()), "a") as archive:
        archive.writestr("b/other", b"")
    refused(path, "damaged", name="outside of its folder")
    path.write_bytes(hand_made(path, pickled()).read_bytes()[:-30])
    with WeightFile(path) as file, pytest.raises(PortError, match="damaged"):
        torch_archive.claims(file)


def test_a_checksum_that_is_wrong_is_noticed_when_the_tensor_is_read(tmp_path):
    path = hand_made(tmp_path / "a.pt", pickled(), b"0123456789abcdef")
    path.write_bytes(path.read_bytes().replace(b"0123456789abcdef", b"0123456789abcdeF"))
    refused(path, "damaged", name="checksum")


def test_other_archives_are_not_claimed(tmp_path):
    for name, content in (("a.zip", zipped()), ("b", b"PK"), ("c", b"")):
        (tmp_path / name).write_bytes(content)
        with WeightFile(tmp_path / name) as file:
            assert not torch_archive.claims(file)


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["state.pt", "run.pt", "script.pt"])
def test_damaged_pickles_raise_nothing_else(tmp_path, name):
    found = Counter(outcomes(FILES / name, tmp_path, range(150)))
    assert found["source"] > 0
    assert found["refused"] > 100
