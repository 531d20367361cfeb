"""The result, or the error, of the HDF5 reader for a file."""

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import hdf5
from frostline.porting.readers.weight_file import WeightFile

NEEDS_NOT = "The HDF5 file uses a feature that no file of weights needs"


def walk(path):
    with WeightFile(path) as file:
        found = hdf5.walk(file)
        return found, {name: array.load() for name, array in found.arrays.items()}


def refuse(path, what, received=""):
    with pytest.raises(PortError, match=what) as caught:
        walk(path)
    assert received in caught.value.received
    return caught.value
