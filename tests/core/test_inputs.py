import pytest
import torch

import frostline as fl
from frostline.core import inputs


def test_inputs_are_called_as_they_are():
    def model(*args, **kwargs):
        return args, kwargs

    assert inputs.call(model, 3) == ((3,), {})
    assert inputs.call(model, (1, 2)) == ((1, 2), {})
    assert inputs.call(model, {"a": 1}) == ((), {"a": 1})


def test_rows_leave_unbatched_tensors_alone():
    batch = {"a": torch.arange(6).view(3, 2), "table": torch.ones(5)}
    part = inputs.rows(batch, slice(0, 2))
    assert part["a"].shape == (2, 2)
    assert part["table"].shape == (5,)


def test_labels_are_targets_unless_forward_needs_them():
    item = {"x": 1, "labels": 2}
    assert inputs.unpack(item, 0) == ({"x": 1}, 2)
    assert inputs.unpack(item, 0, frozenset({"labels"})) == (item, 2)
    assert inputs.required_labels(lambda x, labels: 0) == {"labels"}
    assert inputs.required_labels(lambda x, labels=None: 0) == frozenset()
    with pytest.raises(fl.DataError, match="must be \\(inputs, target\\)") as caught:
        inputs.unpack({"x": 1}, 5)
    assert caught.value.where == "dataset[5]"


def test_floats_become_float32_targets():
    assert inputs.collate_targets([0.5, 1.0], [0, 1]).dtype == torch.float32
    assert inputs.collate_targets([torch.tensor(1), 2], [0, 1]).tolist() == [1, 2]
