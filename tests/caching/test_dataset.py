import pytest
import torch
from torch.utils.data import DataLoader

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
