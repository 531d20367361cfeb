import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import frostline as fl
from frostline.data import Arrays, load_arrays

UNUSABLE = {
    "nothing": lambda: None, "a list": lambda: [1.0], "an array of numpy": lambda: np.zeros((4, 2)),
    "a number": lambda: torch.tensor(1.0), "no values": lambda: torch.zeros(4, device="meta"),
    "sparse": lambda: torch.eye(4).to_sparse(), "nested": lambda: torch.nested.nested_tensor([torch.zeros(2)] * 4),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(4, 2), 0.1, 0, torch.quint8),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch means to do without some of these
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_tensor_of_rows_is_refused(name):
    given = UNUSABLE[name]()
    with pytest.raises(fl.DataError, match="not one tensor with a row for each sample"):
        Arrays(given, torch.arange(4) % 2)
    with pytest.raises(fl.DataError, match="The targets are not one tensor"):
        Arrays(torch.zeros(4, 2), given)


def test_labels_of_any_whole_type_are_classes_and_identifiers_are_none(tmp_path):
    for kind in (np.uint64, np.uint32, np.uint16, np.int8, bool):
        np.savez(tmp_path / "a.npz", x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1], kind))
        data = load_arrays(tmp_path / "a.npz")
        assert data.classes == ("0", "1")
        assert data.labels[torch.tensor([1, 2])].tolist() == [1, 0]
    assert len(Arrays(torch.zeros(2, 2), torch.tensor([0, 999_999])).classes) == 1_000_000
    with pytest.raises(fl.DataError, match="too large for a class index"):
        Arrays(torch.zeros(2, 2), torch.tensor([0, 1_000_000]))
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


def test_targets_that_are_no_class_indices_have_no_names(tmp_path):
    for targets in (torch.rand(3), torch.zeros(3, 2).long(), torch.zeros(3, dtype=torch.complex64)):
        assert Arrays(torch.zeros(3, 2), targets).classes is None
    data = Arrays(torch.zeros(3, 2).double(), torch.tensor([0.5, 1.0, 2.0]).double())
    assert (data.inputs.dtype, data.labels.dtype) == (torch.float32, torch.float32)


def test_soft_labels_and_rows_of_complex_numbers_of_a_file_stay_as_they_are(tmp_path):
    for rows in (
        [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]],
        [[2, -1], [1, 0], [0, 1]],
        [[1j, 0], [1, 0], [0, 1]],
        [[1j], [0j], [1]],
    ):
        np.savez(tmp_path / "a.npz", x=np.ones((3, 2), np.float32), y=np.array(rows))
        assert load_arrays(tmp_path / "a.npz").labels.tolist() == rows


def test_names_that_are_given_are_those_of_the_classes():
    assert Arrays(torch.zeros(2, 2), torch.tensor([0, 1]), ("ant", "bee")).classes == ("ant", "bee")


def test_arrays_of_nothing_and_errors_of_a_file_say_where(tmp_path):
    with pytest.raises(fl.DataError, match="do not pair up") as error:
        Arrays(torch.zeros(0, 2), torch.zeros(0))
    assert error.value.received == "0 inputs, 0 targets"
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.array([0, 1, -7]))
    with pytest.raises(fl.DataError, match="A label is negative") as error:
        load_arrays(tmp_path / "a.npz")
    assert (error.value.where, error.value.received) == (str(tmp_path / "a.npz"), "label -7 of sample 2")
    with pytest.raises(fl.DataError, match="not finite") as error:
        Arrays(torch.full((20, 1), float("inf")), torch.arange(20) % 2)
    assert error.value.received == "NaN or Inf in samples [0, 1, 2, 3, 4, 5, 6, 7]"


def test_a_key_is_of_the_content_and_the_same_in_every_version():
    """Features that an earlier version has stored are found again."""
    labels = torch.tensor([0, 1])
    plain = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    others = [plain.view(torch.int32), plain.view(2, 1, 2), -plain]
    keys = [Arrays(inputs, labels).sample_key(0) for inputs in (plain, *others)]
    assert len(set(keys)) == 4
    assert Arrays(torch.tensor([[9.0, 9.0], [1.0, 2.0]]), labels).sample_key(1) == keys[0]
    assert (Arrays.fingerprint, keys[0].hex()) == ("arrays/1", "e76d7533ca1b61e2354662cbe7960d15")
