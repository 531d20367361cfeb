"""Files of PyTorch for the tests: written by it, or by hand."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.readers import torch_archive
from frostline.porting.readers.weight_file import WeightFile


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))


def read(path, key=None, reader=torch_archive):
    """The tensors of a file, loaded, and what else is known of it."""
    with WeightFile(Path(path)) as file:
        assert reader.claims(file)
        source = reader.read(file, key)
        return {one.name: one.load() for one in source.tensors}, source


def check(found, source, expected):
    """Every tensor is the expected one to the bit, and has the shape and dtype that was announced."""
    assert list(found) == list(expected)
    for one in source.tensors:
        tensor = found[one.name]
        assert (one.shape, one.dtype) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        assert tensor.is_contiguous()
        assert tensor.dtype == expected[one.name].dtype
        assert torch.equal(bits(tensor), bits(expected[one.name].detach()))


def bits(tensor):
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor.contiguous().reshape(-1).view(torch.uint8)


def saved(tmp_path, value, **how):
    torch.save(value, tmp_path / "a.pt", **how)
    return tmp_path / "a.pt"


def refused(path, match, key=None, *, name=""):
    with pytest.raises(PortError, match=match) as caught:
        read(path, key)
    assert name in caught.value.received
    return caught.value


def rewritten(path, change):
    """The archive with its members as `change` gives them."""
    with zipfile.ZipFile(path) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def pickled(
    persistent=b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\4tQ", rest=b"K\0K\4\x85K\1\x85"
):
    """A state dict of one tensor in a memory of four numbers."""
    return (b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + persistent + rest + b"\x89}tRs.")  # fmt: skip


def hand_made(path, pickle, storage=bytes(16), **others):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": pickle, "data/0": storage, "version": b"3\n", **others}.items():
            archive.writestr(zipfile.ZipInfo(f"a/{name}"), content)
    return path
