"""Large arrays lie in a file without a name; where there can be none, in memory."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core import disk_array as module
from frostline.core import file_systems, io
from frostline.core.disk_array import disk_array, disk_tensor, row_type


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_BYTES", 64)
    monkeypatch.setattr(module, "can_reserve", lambda folder: True)


def is_mapped(array: np.ndarray) -> bool:
    """Whether a file holds this memory."""
    place = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(own, 16) for own in line.split()[0].split("-"))
        if first <= place < last:
            return "(deleted)" in line
    return False


def test_a_large_array_is_mapped_from_a_file_without_a_name(tmp_path, small):
    array = disk_array((10, 4), np.int32, tmp_path)
    assert is_mapped(array)
    assert array.shape == (10, 4)
    assert not array.any()
    array[3] = 7
    assert array.sum() == 28
    assert os.listdir(tmp_path) == []
    tensor = disk_tensor((5, 3), torch.int64, tmp_path)
    assert is_mapped(tensor.numpy())
    tensor[4, 2] = -1
    assert int(tensor.sum()) == -1


def test_small_arrays_and_those_without_a_folder_are_memory(tmp_path, small):
    assert not is_mapped(disk_array((3,), np.int64, tmp_path))
    assert not is_mapped(disk_array((300,), np.int64, None))
    assert disk_tensor((0, 3), torch.float32, tmp_path).shape == (0, 3)


@pytest.mark.parametrize("call", ["open", "posix_fallocate", "mmap"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EOPNOTSUPP, errno.EMFILE])
def test_a_disk_that_refuses_is_replaced_by_memory(tmp_path, monkeypatch, small, call, number):
    real, before = io.call, len(os.listdir("/proc/self/fd"))

    def failing(function, *arguments, **options):
        if function.__name__ == call:
            raise OSError(number, os.strerror(number))
        return real(function, *arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    array = disk_array((100,), np.int64, tmp_path)
    assert not is_mapped(array)
    assert array.tolist() == [0] * 100
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_system_without_such_files_has_memory(tmp_path, monkeypatch, small):
    monkeypatch.delattr(os, "O_TMPFILE")
    assert not is_mapped(disk_array((100,), np.int64, tmp_path))
    assert not is_mapped(disk_array((100,), np.int64, tmp_path / "none"))


def test_disks_that_keep_no_room_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_BYTES", 64)
    device = os.stat(tmp_path).st_dev
    for kind, expected in (("ext4", True), ("xfs", True), ("btrfs", False), ("nfs4", False), ("tmpfs", False)):
        line = f"36 35 {os.major(device)}:{os.minor(device)} / / rw shared:1 - {kind} /dev/x rw\n"
        (tmp_path / "mounts").write_text(line)
        monkeypatch.setattr(file_systems, "_MOUNTS", tmp_path / "mounts")
        assert is_mapped(disk_array((100,), np.int64, tmp_path)) == expected, kind


def test_a_row_number_takes_as_few_bytes_as_it_can():
    assert [np.dtype(row_type(count)).itemsize for count in (0, 2**15 - 1, 2**15, 2**31 - 1, 2**31)] == [2, 2, 4, 4, 8]
