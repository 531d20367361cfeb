import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.core import inputs


def test_tensors_that_cannot_be_cut_or_read_are_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
        csr = torch.eye(4).to_sparse_csr()
    with pytest.raises(fl.DataError, match="A nested tensor cannot be used here") as caught:
        inputs.batch_size({"ids": nested})
    assert caught.value.where == "the input 'ids'"
    for sparse in (torch.eye(4).to_sparse(), csr):
        with pytest.raises(fl.DataError, match="A sparse_(coo|csr) tensor cannot be used here"):
            inputs.rows((torch.zeros(4), sparse), slice(0, 2))
    with pytest.raises(fl.DataError, match="A meta tensor cannot be used here"):
        inputs.move(torch.zeros(2, device="meta"), "cpu")
    assert inputs.move(torch.zeros(2), "meta").is_meta


@pytest.mark.parametrize("length", [-1, None, 2.0])
def test_a_dataset_without_a_length_is_refused(length):
    class Odd:
        def __len__(self):
            return length

        def __getitem__(self, index):
            return index

    with pytest.raises(fl.DataError, match="The dataset has no length"):
        inputs.check_map_style(Odd())
    with pytest.raises(fl.DataError, match="not a map-style dataset") as caught:
        inputs.check_map_style(Odd)
    assert caught.value.received == "the class Odd, without len() or without [i]"


def test_keys_that_are_no_names_are_refused():
    with pytest.raises(fl.DataError, match="takes its inputs by name"):
        inputs.call(torch.nn.Linear(2, 2), {0: torch.zeros(1, 2)})


def test_a_class_is_described_as_one():
    assert inputs.describe((torch.Tensor, 3)) == "(the class Tensor, int)"


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


@pytest.mark.parametrize(
    ("value", "is_finite"), [(1.0, True), (3e38, True), (float("nan"), False), (float("inf"), False), (-3e38, True)]
)
def test_inputs_are_finite_however_large_their_sum(value, is_finite):
    given = {"x": torch.zeros(2, 3), "rest": (torch.tensor([value, value]), torch.tensor([1]))}
    assert inputs.are_finite(given) is is_finite
    assert inputs.are_finite(torch.tensor([value, -value])) is is_finite


def test_labels_are_targets_unless_forward_needs_them():
    item = {"x": 1, "labels": 2}
    assert inputs.unpack(item, 0) == ({"x": 1}, 2)
    assert inputs.unpack(item, 0, frozenset({"labels"})) == (item, 2)
    assert inputs.required_labels(lambda x, labels: 0) == {"labels"}
    assert inputs.required_labels(lambda x, labels=None: 0) == frozenset()
    with pytest.raises(fl.DataError, match="must be \\(inputs, target\\)") as caught:
        inputs.unpack({"x": 1}, 5)
    assert caught.value.where == "dataset[5]"


def test_batches_are_joined_sample_by_sample():
    one, other = {"x": torch.zeros(2, 3), "table": torch.ones(5)}, {"x": torch.ones(1, 3), "table": torch.zeros(5)}
    both = inputs.joined(one, other)
    assert both["x"].tolist() == [[0.0] * 3] * 2 + [[1.0] * 3]
    assert torch.equal(both["table"], torch.ones(5))
    with pytest.raises(RuntimeError):
        inputs.joined(torch.zeros(2, 3), torch.zeros(2, 4))


def test_an_item_that_cannot_be_read_is_named():
    with pytest.raises(fl.DataError, match="cannot be read") as error:
        inputs.read([1, 2], 5)
    assert error.value.where == "dataset[5]"
    assert error.value.received == "IndexError: list index out of range"


@pytest.mark.parametrize(("value", "broken"), [(1.0, False), (-torch.inf, False), (torch.inf, True), (torch.nan, True)])
def test_masks_are_not_broken(value, broken):
    assert inputs.is_broken({"ids": torch.tensor([1]), "x": torch.tensor([0.0, value])}) is broken


def test_a_sparse_tensor_without_the_batch_axis_is_shared():
    table = torch.eye(4)[:3].to_sparse()  # (3, 4)
    part = inputs.rows((torch.zeros(4, 2), table), slice(0, 2))
    assert part[0].shape == (2, 2)
    assert part[1] is table
    with pytest.raises(fl.DataError, match="A sparse_coo tensor cannot be used here"):
        inputs.rows((torch.zeros(3, 2), table), slice(0, 2))


def test_values_of_other_libraries_are_described_by_shape_and_dtype():
    assert inputs.describe(np.zeros((2, 3), np.int16)) == "ndarray int16 (2, 3)"
    assert inputs.describe(torch.finfo(torch.float32)) == "finfo"
    assert inputs.describe({"a": (np.float32(1), None)}) == "{a: (float32 float32 (), NoneType)}"


def test_arrays_and_numbers_become_tensors_and_tensors_stay_themselves():
    x = torch.zeros(2)
    found = inputs.map_arrays({"a": np.ones(2), "b": [x, 3]})
    assert (found["a"].dtype, found["b"][1].item()) == (torch.float64, 3)
    assert found["b"][0] is x


def test_the_batch_size_is_that_of_the_first_tensor_with_an_axis():
    assert inputs.batch_size((torch.tensor(1.0), torch.zeros(7, 2), torch.zeros(3))) == 7
    with pytest.raises(fl.DataError, match="The batch size of the inputs cannot be determined") as error:
        inputs.batch_size({"a": torch.tensor(1.0), "b": 3})
    assert error.value.received == "{a: float32 (), b: int}"


def test_structures_keep_their_kind():
    given = {"a": (torch.ones(1), [torch.ones(1)]), "b": "text"}
    doubled = inputs.map_tensors(given, lambda x: x * 2)
    assert doubled == {"a": (torch.tensor([2.0]), [torch.tensor([2.0])]), "b": "text"}
    assert list(inputs.leaves(given)) == ["a.0", "a.1.0"]
    assert inputs.move(given, None) is given


def test_a_loader_in_place_of_a_dataset_is_named():
    loader = torch.utils.data.DataLoader([1, 2])
    with pytest.raises(fl.DataError, match="A DataLoader was given where a dataset is needed"):
        inputs.check_map_style(loader)
    with pytest.raises(fl.DataError, match="dataset is empty"):
        inputs.check_map_style([])


def test_errors_of_an_item_that_are_ours_pass_as_they_are():
    class Own:
        def __getitem__(self, index):
            raise fl.DataError(what="mine", where="here", received="this", do="that")

    with pytest.raises(fl.DataError, match="mine"):
        inputs.read(Own(), 0)


@pytest.mark.parametrize("item", [(1, 2, 3), (1,), 5, {"x": 1}])
def test_an_item_is_a_pair_or_has_a_label(item):
    with pytest.raises(fl.DataError, match="must be"):
        inputs.unpack(item, 0)
    assert inputs.unpack([1, 2], 0) == (1, 2)
    assert inputs.unpack({"x": 1, "label": 2, "labels": 3}, 0) == ({"x": 1}, 2)


def test_a_forward_that_takes_something_else_is_shown():
    with pytest.raises(fl.DataError, match="Linear cannot be called with these inputs") as error:
        inputs.call_with_model(torch.nn.Linear(2, 2), (torch.zeros(1, 2), 5))
    assert error.value.where.startswith("Linear.forward(input")
    assert error.value.received.startswith("(float32 (1, 2), int); ")

    class Other(torch.nn.Module):
        def forward(self, x):
            raise TypeError("of another kind")

    with pytest.raises(TypeError, match="of another kind"):
        inputs.call_with_model(Other(), torch.zeros(1))


def test_a_length_alone_makes_no_dataset():
    with pytest.raises(fl.DataError, match="not a map-style dataset"):
        inputs.check_map_style({1, 2})


def test_a_stream_is_no_map_style_dataset():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(3))

        def __len__(self):
            return 3

    with pytest.raises(fl.DataError, match="not a map-style dataset"):
        inputs.check_map_style(Stream())


def test_outputs_that_are_read_by_attributes_keep_them():
    Pair = namedtuple("Pair", ["logits", "extra"])

    @dataclass
    class Output(OrderedDict):
        logits: torch.Tensor

        def __post_init__(self):
            self["logits"] = self.logits

    for given in (Pair(torch.ones(2), None), Output(torch.ones(2))):
        found = inputs.map_tensors(given, lambda one: one + 1)
        assert type(found) is type(given)
        assert found.logits.tolist() == [2.0, 2.0]


def test_a_dictionary_of_datasets_is_told_to_pass_one_of_them():
    with pytest.raises(fl.DataError, match="mapping of other keys than positions") as error:
        inputs.check_map_style({"train": [1], "test": [2]})
    assert "data['train']" in error.value.do
    inputs.check_map_style({0: 1, 1: 2})
