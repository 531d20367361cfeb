import io
import pickle
import struct
import tarfile

import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.readers import torch_legacy
from frostline.porting.readers.weight_file import WeightFile
from porting.torch_files import Small, check, read

HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x00kX\3\0\0\0cpuK\4"
MEMORY = struct.pack("<q4f", 4, 1, 2, 3, 4)
KEYS = pickle.dumps(["k"], 2)


def older(tmp_path, value, **how):
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=False, **how)
    return tmp_path / "a.pt"


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict(tmp_path, protocol):
    state = Small().state_dict()
    found, source = read(older(tmp_path, state, pickle_protocol=protocol), reader=torch_legacy)
    check(found, source, state)
    assert source.format == "PyTorch weights (before 1.6)"


def test_parts_of_memories_and_ties(tmp_path):
    base = torch.arange(60.0)
    state = {"a": base.reshape(3, 20).T, "b": base[7:19:3], "half": base.bfloat16(), "flags": base > 3,
             "new": torch.arange(4).to(torch.uint16)}  # fmt: skip
    found, source = read(older(tmp_path, {"state_dict": state, "optimizer": {"x": base}}), reader=torch_legacy)
    check(found, source, state)
    assert source.dropped == {"optimizer.x": "optimizer slot"}
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert "share their storage" in read(older(tmp_path, model.state_dict()), reader=torch_legacy)[1].notes[0]


def hand_made(path, *, view=b"N", system=None, keys=KEYS, memory=MEMORY, sizes=b"K\4"):
    tensor = b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + view + b"tQK\0" + sizes
    tensor += b"\x85K\1\x85\x89}tRs."
    path.write_bytes(HEAD + pickle.dumps(system or {"little_endian": True}, 2) + tensor + keys + memory)
    return path


def test_a_file_made_by_hand(tmp_path):
    found, _ = read(hand_made(tmp_path / "a.pt"), reader=torch_legacy)
    assert found["w"].tolist() == [1, 2, 3, 4]
    part = hand_made(tmp_path / "a.pt", view=b"(X\1\0\0\0vK\1K\2t", sizes=b"K\2")
    assert read(part, reader=torch_legacy)[0]["w"].tolist() == [2, 3]


@pytest.mark.parametrize(
    "how",
    [{"view": b"(X\1\0\0\0vK\1K\4t"}, {"view": b"(X\1\0\0\0vNK\4t"}, {"view": b"K\1"}, {"keys": pickle.dumps(["j"], 2)},
     {"view": b"(X\1\0\0\0vJ\xff\xff\xff\xffK\2t", "sizes": b"K\2"}, {"keys": pickle.dumps(["k", "k"], 2)},
     {"keys": pickle.dumps({"k": 1}, 2)}, {"memory": struct.pack("<q4f", 5, 1, 2, 3, 4)}, {"memory": b"\4\0\0\0"},
     {"memory": struct.pack("<q4fB", 4, 1, 2, 3, 4, 5)}, {"memory": struct.pack("<q3f", 4, 1, 2, 3)},
     {"memory": struct.pack("<q4f", -4, 1, 2, 3, 4)}, {"system": [1]}, {"sizes": b"K\5"}],
)  # fmt: skip
def test_files_that_contradict_themselves(tmp_path, how):
    refused(hand_made(tmp_path / "a.pt", **how), "damaged")


def test_another_order_of_bytes_is_refused(tmp_path):
    refused(hand_made(tmp_path / "a.pt", system={"little_endian": False}), "big-endian machines")


def refused(path, match):
    with WeightFile(path) as file, pytest.raises(PortError, match=match) as caught:
        assert torch_legacy.claims(file)
        torch_legacy.read(file, None)
    return caught.value


def test_archives_of_the_first_pytorch_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "torch.save" in refused(tmp_path / "a.pt", "before 0.1.10 are not supported").do


def test_modules_are_code(tmp_path):
    assert "Small" in refused(older(tmp_path, Small()), "contains more than data").received


def test_other_files_are_not_claimed(tmp_path):
    for content in (b"", b"\x80", pickle.dumps({"a": 1}), b"PK\3\4", b"ustar"):
        (tmp_path / "a").write_bytes(content)
        with WeightFile(tmp_path / "a") as file:
            assert not torch_legacy.claims(file)
