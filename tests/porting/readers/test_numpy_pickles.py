import numpy as np

from porting.torch_files import read, saved


def test_arrays_of_numpy_are_weights_too(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
              "c": np.array([1, 2], ">f4"), "d": np.zeros((0, 2)), "e": np.ones(3, bool)}  # fmt: skip
    for protocol in (2, 4, 5):
        found, source = read(saved(tmp_path, arrays, pickle_protocol=protocol))
        assert all(np.array_equal(found[name].numpy(), arrays[name]) for name in arrays)
        assert [one.dtype for one in source.tensors] == ["float64", "int64", "float32", "float64", "bool"]
