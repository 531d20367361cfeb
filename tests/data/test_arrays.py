import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import frostline as fl
from frostline.data import Arrays, load_arrays


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_from_a_file(tmp_path, suffix):
    x, y = np.random.rand(6, 3), np.array([0, 1, 0, 1, 0, 1])
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, inputs=x, labels=y)
    else:
        save_file({"inputs": torch.tensor(x), "labels": torch.tensor(y)}, path)
    data = load_arrays(path)
    assert (len(data), data.inputs.dtype, data.classes) == (6, torch.float32, ("0", "1"))
    assert data.sample_key(0) != data.sample_key(1)
    assert data.target(1) == 1


def test_bad_arrays_are_refused(tmp_path):
    y = torch.tensor([0, 1, 1])
    with pytest.raises(fl.DataError, match="do not pair up"):
        Arrays(torch.ones(2, 2), y)
    with pytest.raises(fl.DataError, match="inputs are not finite") as error:
        Arrays(torch.tensor([[1.0], [float("nan")], [2.0]]), y)
    assert error.value.received == "NaN or Inf in samples [1]"
    with pytest.raises(fl.DataError, match="a single class"):
        Arrays(torch.ones(3, 2), torch.zeros(3).long())
    with pytest.raises(fl.DataError, match="A label is negative"):
        Arrays(torch.ones(3, 2), torch.tensor([0, -1, 1]))
    np.savez(tmp_path / "a.npz", z=np.ones(2), y=np.ones(2))
    with pytest.raises(fl.DataError, match="no array named 'x'") as error:
        load_arrays(tmp_path / "a.npz")
    assert error.value.received == "arrays named y, z"
    np.savez(tmp_path / "o.npz", x=np.array([object()]), y=np.ones(1))
    for name, content in (("o.npz", None), ("b.npz", b"x"), ("c.safetensors", b"x" * 9), ("missing.npz", None)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(fl.DataError, match="Cannot read arrays"):
            load_arrays(tmp_path / name)
