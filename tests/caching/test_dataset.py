import pytest
import torch
from torch.utils.data import DataLoader

import frostline as fl
from helpers_caching import N, dataset, fill


def test_stored_rows_are_what_the_part_computes(tmp_path):
    data = fill(tmp_path)
    assert len(data) == N
    for index in (0, 7, -1):
        features, target = data[index]
        assert torch.equal(features[0], dataset()[index][0] * 2)
        assert target == dataset()[index][1]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_data_loader_batches_it(tmp_path, workers):
    data = fill(tmp_path)
    loader = DataLoader(data, batch_size=8, num_workers=workers, multiprocessing_context="fork" if workers else None)
    rows = torch.cat([features[0] for features, _ in loader])
    assert torch.equal(rows, dataset().tensors[0] * 2)


def test_samples_are_asked_for_by_position(tmp_path):
    data = fill(tmp_path)
    for wrong in (None, "1", slice(0, 2), 0.5, torch.tensor([0, 1])):
        with pytest.raises(fl.DataError, match="A sample is asked for by its position"):
            data[wrong]
    assert torch.equal(data[torch.tensor(3)][0][0], data[3][0][0])
    for beyond in (N, -N - 1):
        with pytest.raises(IndexError, match=f"sample {beyond} of {N}"):
            data[beyond]
    assert torch.equal(data[-N][0][0], data[0][0][0])


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(fl.DataError, match="not a device of this machine"):
        fill(tmp_path).loader(4, device="cuda:99")
