import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import frostline as fl
from frostline.data import Arrays, load_arrays


@pytest.mark.parametrize("given", [None, [1.0], np.zeros((4, 2)), torch.tensor(1.0), torch.zeros(4, device="meta")])
def test_what_is_no_tensor_of_rows_is_refused(given):
    with pytest.raises(fl.DataError, match="not one tensor with a row for each sample"):
        Arrays(given, torch.arange(4) % 2)
    with pytest.raises(fl.DataError, match="The targets are not one tensor"):
        Arrays(torch.zeros(4, 2), given)


def test_labels_of_any_whole_type_are_classes_and_identifiers_are_none(tmp_path):
    for kind in (np.uint64, np.uint16, np.int8, bool):
        np.savez(tmp_path / "a.npz", x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1], kind))
        assert load_arrays(tmp_path / "a.npz").classes == ("0", "1")
    with pytest.raises(fl.DataError, match="too large for a class index"):
        Arrays(torch.zeros(2, 2), torch.tensor([0, 2**40]))


def test_a_file_that_ends_too_early_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(fl.DataError, match="Cannot read arrays from this file"):
        load_arrays(tmp_path / "a.npz")


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


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([[0], [2], [1]], np.uint8), ("0", "1", "2")),
        (np.eye(3, dtype=np.float32)[[0, 2, 1]], ("0", "1", "2")),
        (np.eye(3, dtype=np.int64)[[0, 2, 1]], ("0", "1", "2")),
        (np.array(["ant", "cat", "bee"]), ("ant", "bee", "cat")),
    ],
)
def test_columns_one_hot_rows_and_texts_of_a_file_become_class_indices(tmp_path, labels, classes):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2), np.float32), y=labels)
    data = load_arrays(tmp_path / "a.npz")
    assert (data.labels.tolist(), data.classes) == ([0, 2, 1], classes)


def test_numbers_of_a_file_stay_as_they_are(tmp_path):
    for targets in (np.array([[0.5], [1.0], [0.0]], np.float32), np.array([[1, 1], [0, 1], [1, 0]], np.float32)):
        np.savez(tmp_path / "a.npz", x=np.ones((3, 2), np.float32), y=targets)
        data = load_arrays(tmp_path / "a.npz")
        assert (data.labels.tolist(), data.classes) == (targets.tolist(), None)
