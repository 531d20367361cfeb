import numpy as np
import pytest
import torch
from torch import nn

from frostline.core.errors import DataError
from frostline.porting.proof.golden import as_golden, check_taken, fitted


def test_arrays_tuples_mappings_and_files(tmp_path):
    x, y = np.ones((2, 3), "f4"), torch.zeros(2, 4)
    assert as_golden((x, y)).num_samples == 2
    assert set(as_golden(({"ids": x}, [y, y])).inputs) == {"ids"}
    np.savez(tmp_path / "a.npz", inputs=x, outputs=y.numpy())
    assert torch.equal(as_golden(tmp_path / "a.npz").outputs[0], y)
    np.savez(tmp_path / "b.npz", inputs_0=x, inputs_1=x, outputs=y.numpy())
    assert len(as_golden(str(tmp_path / "b.npz")).inputs) == 2


@pytest.mark.parametrize(
    "given",
    [
        3,
        (1,),
        ("a", "b"),
        (np.ones(2), np.ones(0)),
        (np.ones(2), [object()]),
        "missing.npz",
        (np.ones(2), np.full(2, np.nan)),
    ],
)
def test_anything_else_is_refused(given):
    with pytest.raises(DataError, match="Golden outputs consist of inputs and of the source network"):
        as_golden(given)


def test_a_file_with_other_names_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    with pytest.raises(DataError, match="Golden outputs") as caught:
        as_golden(tmp_path / "a.npz")
    assert "arrays x" in caught.value.received


def test_samples_without_outputs(tmp_path):
    assert as_golden((np.ones((2, 3)), None)).outputs == ()
    np.savez(tmp_path / "a.npz", inputs=np.ones((2, 3)))
    assert as_golden(tmp_path / "a.npz").outputs == ()
    np.savez(tmp_path / "b.npz", inputs=np.ones((2, 3)), output=np.ones(2))
    with pytest.raises(DataError, match="Golden outputs"):
        as_golden(tmp_path / "b.npz")


def test_inputs_take_the_dtype_of_the_module_and_the_notes_say_so():
    golden = as_golden(({"x": np.ones((2, 3)), "ids": np.ones(2, int)}, np.ones((2, 4))))
    made, notes = fitted(golden, nn.Linear(3, 4))
    assert made.inputs["x"].dtype == torch.float32
    assert made.inputs["ids"].dtype == torch.int64
    assert notes == ("inputs converted from float64 to float32",)
    assert fitted(made, nn.Linear(3, 4))[1] == ()
    assert fitted(golden, nn.Flatten())[0] is golden


def test_an_array_without_a_name_and_inputs_that_are_nan_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(DataError, match="Golden outputs") as caught:
        as_golden(tmp_path / "a.npy")
    assert "one array without a name" in caught.value.received
    golden, _ = fitted(as_golden((np.full((2, 3), np.nan), np.ones(2))), nn.Linear(3, 4))
    with pytest.raises(DataError, match="Golden outputs") as caught:
        check_taken(golden, nn.Linear(3, 4))
    assert "NaN" in caught.value.received


def test_inputs_as_the_source_network_takes_them_are_refused_with_the_remedy():
    golden, _ = fitted(as_golden((np.ones((2, 8, 8, 3)), np.ones(2))), nn.Conv2d(3, 4, 3))
    with pytest.raises(DataError, match="The module cannot be run on these inputs") as caught:
        check_taken(golden, nn.Conv2d(3, 4, 3))
    assert caught.value.received.startswith("float32 (2, 8, 8, 3): ")
    assert "channels on axis 1" in caught.value.do
