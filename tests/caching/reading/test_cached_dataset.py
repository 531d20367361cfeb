import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import frostline as fl
from frostline.caching.reading.cached_dataset import check_targets
from frostline.caching.samples.columns import Column
from helpers_caching import N, Part, dataset, fill
from helpers_processes import fresh_processes


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
        with pytest.raises(fl.DataError, match="A sample is selected by its position"):
            data[wrong]
    assert torch.equal(data[torch.tensor(3)][0][0], data[3][0][0])
    for beyond in (N, -N - 1):
        with pytest.raises(IndexError, match=f"sample {beyond} of {N}"):
            data[beyond]
    assert torch.equal(data[-N][0][0], data[0][0][0])


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(fl.DataError, match="not a device of this machine"):
        fill(tmp_path).loader(4, device="cuda:99")


class Watched(Part):
    """A frozen part that counts how often it is asked whether its weights have moved."""

    is_steered = False

    def __init__(self):
        super().__init__()
        self.looks = 0

    def prove(self, inputs, features):
        pass

    def check_unchanged(self):
        pass

    def check_weights(self):
        self.looks += 1


def test_the_weights_are_looked_at_about_once_in_every_pass(tmp_path):
    part = Watched()
    data = fill(tmp_path, part)
    before = part.looks
    for _ in range(3):
        for at in range(0, N, 8):
            data.__getitems__(range(at, at + 8))
    assert part.looks - before == 3
    list(data.loader(8))
    assert part.looks - before == 4
    pickle.loads(pickle.dumps(data))[0]  # a copy in another process has no model to look at: only before it is made
    assert part.looks - before == 5


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [(list(range(N)), torch.int64), ([0.5] * N, torch.float32), ([torch.tensor(1.5)] * N, torch.float32),
     ([2**62] * N, torch.int64), ([True, False] * (N // 2), torch.bool), ([1, 0.5] * (N // 2), torch.float32)],
)  # fmt: skip
def test_targets_keep_their_kind(tmp_path, targets, dtype):
    data = fill(tmp_path, data=[(x, target) for (x, _), target in zip(dataset(), targets, strict=True)])
    ((_, found),) = data.loader(N)
    assert found.dtype == dtype
    assert found.tolist() == [float(target) if dtype == torch.float32 else target for target in targets]
    assert data[-1][1] == targets[-1]


def test_a_number_that_no_tensor_holds_is_refused(tmp_path):
    with pytest.raises(fl.DataError):
        fill(tmp_path, data=[(x, 2**70) for x, _ in dataset()])


def test_targets_that_hold_no_number_are_refused():
    column = Column(2)
    column[0] = column[1] = {}
    with pytest.raises(fl.DataError, match="The targets are not numbers") as error:
        check_targets(column)
    assert error.value.where == "the dataset's targets"


def test_no_copy_is_made_for_workers_when_the_weights_are_others(tmp_path):
    class Changed(Watched):
        is_changed = False

        def check_weights(self):
            if self.is_changed:
                raise fl.CacheError(what="Changed.", where="0", received="others", do="split again.")

    part = Changed()
    data = fill(tmp_path, part)
    assert len(list(DataLoader(data, batch_size=20, num_workers=1, multiprocessing_context=fresh_processes()))) == 2
    part.is_changed = True
    with pytest.raises(fl.CacheError, match="Changed"):
        iter(DataLoader(data, batch_size=20, num_workers=1, multiprocessing_context=fresh_processes()))


def test_a_part_is_the_rows_at_its_positions(tmp_path):
    data = fill(tmp_path)
    part = data.part([3, -1, 0])
    assert len(part) == 3
    assert torch.equal(part.targets, data.targets[[3, -1, 0]])
    for at, whole in enumerate((3, len(data) - 1, 0)):
        assert torch.equal(part[at][0][0], data[whole][0][0])
    assert torch.equal(next(iter(part.loader(2)))[0][0], torch.stack([part[0][0][0], part[1][0][0]]))
    assert torch.equal(part.part([2])[0][0][0], data[0][0][0])
    with pytest.raises(fl.DataError, match="A part of a cached dataset needs samples that are there"):
        data.part([len(data)])
    with pytest.raises(fl.DataError, match="A part of a cached dataset needs samples"):
        data.part([])
    with pytest.raises(fl.DataError, match="A sample is selected by its position"):
        data.part([0.5])


def test_collate_makes_the_batches_of_the_loader(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    fl.freeze(model, through="1")
    dataset = torch.utils.data.TensorDataset(torch.randn(10, 4), torch.arange(10) % 2)
    data = fl.FeatureCache(tmp_path).fill(fl.split(model, torch.randn(4, 4)), dataset, progress=False)
    own = list(data.loader(4))
    for (features, target), (expected, labels) in zip(
        torch.utils.data.DataLoader(data, 4, collate_fn=data.collate), own, strict=True
    ):
        assert torch.equal(features[0], expected[0])
        assert torch.equal(target, labels)
    for odd in ([], [1, 2], [(torch.ones(8), 1)]):
        with pytest.raises(fl.DataError, match="These are no samples of a cached dataset"):
            data.collate(odd)
