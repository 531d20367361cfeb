import numpy as np
import pytest
import torch

from frostline.caching import golden
from helpers_caching import N, Offering, dataset, fill


def test_known_samples_are_not_decoded(tmp_path):
    fill(tmp_path, data=Offering())
    again = Offering()
    data = fill(tmp_path, data=again)
    assert again.decoded <= golden.GOLDEN_ROWS
    assert [int(data[i][1]) for i in range(N)] == [i % 4 for i in range(N)]
    grown = Offering(N + 10)
    assert fill(tmp_path, data=grown).figures.computed == 10
    assert grown.decoded <= golden.GOLDEN_ROWS + 16


def test_changed_targets_of_known_samples_are_noticed(tmp_path):
    fill(tmp_path, data=Offering())
    data = fill(tmp_path, data=Offering(shift=1))
    assert data.figures.computed == 0
    assert int(data[0][1]) == 1
    assert "not those of the last fill" in data.notes[0]


def test_one_changed_label_of_a_known_sample_is_noticed(tmp_path):
    fill(tmp_path, data=Offering())
    mended = Offering()
    mended.labels[7] = 0  # not among the golden samples
    data = fill(tmp_path, data=mended)
    assert data.figures.computed == 0
    assert int(data[7][1]) == 0


class Hidden(Offering):
    """Its labels are nowhere to be seen but in its items."""

    def __init__(self, **changed) -> None:
        super().__init__()
        labels = {index: changed.get(f"at_{index}", label) for index, label in enumerate(self.labels)}
        self.label_of = labels.__getitem__
        del self.labels

    def __getitem__(self, index):
        self.decoded += 1
        return self.inputs[index], self.label_of(index)


def test_targets_that_cannot_be_told_without_the_items_are_read_again(tmp_path):
    fill(tmp_path, data=Hidden())
    mended = Hidden(at_7=0)
    data = fill(tmp_path, data=mended)
    assert (data.figures.computed, int(data[7][1])) == (0, 0)
    assert "let the dataset offer target(i)" in data.notes[0]


@pytest.mark.parametrize("hold", [tuple, "pairs", "columns", "array"])
def test_targets_are_found_where_datasets_keep_them(tmp_path, hold):
    fill(tmp_path, data=Offering())
    again = Hidden()
    inputs, labels = again.inputs, dataset().tensors[1].tolist()
    kept = {
        tuple: tuple(labels), "pairs": list(zip(inputs, labels, strict=True)),
        "columns": (inputs, torch.tensor(labels)), "array": np.array(labels),
    }[hold]  # fmt: skip
    again.kept = kept
    fill(tmp_path, data=again)
    assert again.decoded <= golden.GOLDEN_ROWS


class Telling(Offering):
    """It tells its targets, and tells other ones than its items do where it lies."""

    lies = False

    def target(self, index):
        return self.labels[index] + (1 if self.lies else 0)


def test_a_dataset_that_offers_its_targets_decodes_nothing_twice(tmp_path):
    fill(tmp_path, data=Telling())
    again = Telling()
    again.labels[7] = 0
    data = fill(tmp_path, data=again)
    assert again.decoded <= golden.GOLDEN_ROWS
    assert int(data[7][1]) == 0
    again.lies = True
    data = fill(tmp_path, data=again)
    assert int(data[7][1]) == 0
    assert data.notes


def test_training_and_validation_data_are_both_remembered(tmp_path):
    fill(tmp_path, data=Offering())
    part = dataset(N + 20)
    other = Offering(N + 20)
    other.inputs, other.labels = part.tensors[0][N:], other.labels[N:]
    other.sample_key = lambda index: (1000 + index).to_bytes(16, "little")
    fill(tmp_path, data=other)
    for again in (Offering(), other):
        again.decoded = 0
        fill(tmp_path, data=again)
        assert again.decoded <= golden.GOLDEN_ROWS
