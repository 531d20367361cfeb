"""A mapped file keeps its lock, with a descriptor or without one."""

import errno
import os
from pathlib import Path

import pytest

from frostline.core.file_map import private_map
from frostline.core.file_systems import locks_follow_maps
from frostline.core.locks import lock


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_free(path: Path) -> bool:
    """Whether somebody else could lock the file for themselves."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return lock(descriptor, is_exclusive=True)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("keeps_descriptor", [True, False])
def test_a_map_holds_the_lock_of_its_file_and_is_private(tmp_path, keeps_descriptor):
    if not keeps_descriptor and not locks_follow_maps(tmp_path):
        pytest.skip("the temporary folder lies on a disk whose maps need a descriptor: pass --basetemp on ext4")
    path, before = tmp_path / "file", descriptors()
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_RDONLY)
    assert lock(descriptor, is_exclusive=False)
    mapped = private_map(descriptor, 10, keeps_descriptor=keeps_descriptor)
    os.close(descriptor)
    assert descriptors() == before + keeps_descriptor
    assert bytes(mapped[2:5]) == b"234"
    assert len(mapped) == 10
    assert not is_free(path)
    memoryview(mapped)[0] = memoryview(mapped)[1]
    assert path.read_bytes() == b"0123456789"
    part = memoryview(mapped)[3:]
    del mapped
    assert not is_free(path)
    assert bytes(part) == b"3456789"
    del part
    assert is_free(path)
    assert descriptors() == before


def test_what_the_kernel_refuses_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="Permission denied") as error:
            private_map(descriptor, 10, keeps_descriptor=False)
    finally:
        os.close(descriptor)
    assert error.value.errno == errno.EACCES
