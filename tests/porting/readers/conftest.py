"""An HDF5 file for one test: its path, and h5py to write it."""

import h5py
import pytest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.fixture
def write(path):
    return lambda: h5py.File(path, "w")
