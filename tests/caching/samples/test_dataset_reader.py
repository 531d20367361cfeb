import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.fill import frozen_pass
from frostline.caching.samples.dataset_reader import check_steady
from helpers_caching import D, Items, Masked, MaskedPart, N, Offering, dataset, fill


class Random(TensorDataset):
    def __init__(self, draw):
        super().__init__(*dataset().tensors)
        self.draw = draw

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + self.draw(), label


PRIVATE = np.random.default_rng(0)


DRAWS = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: torch.rand(()),
    "private": PRIVATE.random,
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_random_dataset_is_refused(tmp_path, name, workers):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        fill(tmp_path, data=Random(DRAWS[name]), num_workers=workers)
    assert "cache=False" in error.value.do


class Changing(TensorDataset):
    """At the second read, one item has another part: its inputs or its target."""

    def __init__(self, at, part):
        super().__init__(*dataset().tensors)
        self.at, self.part, self.is_read = at, part, False

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        was_read, self.is_read = self.is_read, self.is_read or index == self.at
        if index != self.at or not was_read:
            return inputs, target
        return (inputs + 1, target) if self.part == "inputs" else (inputs, target + 1)


@pytest.mark.parametrize("at", [0, N // 2, N - 1])
@pytest.mark.parametrize(("part", "said"), [("inputs", "other inputs"), ("target", "another target")])
def test_the_first_middle_and_last_item_are_read_twice_and_what_differs_is_named(at, part, said):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        check_steady(Changing(at, part))
    assert error.value.where == f"dataset[{at}]"
    assert error.value.received.startswith(f"{said} at the second read")


BAD = {
    "not a pair": (Items([(torch.ones(D),)] * 3), "must be \\(inputs, target\\)"),
    "differing shapes": (Items([(torch.ones(D), 0), (torch.ones(D + 1), 1)]), "do not fit together"),
    "no bytes": (Items([(object(), 0)] * 2), "cannot be fingerprinted"),
    "empty": (Items(), "dataset is empty"),
    "a text as target": (Items([(torch.ones(D), "cat")] * 2), "targets are not numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_items_are_refused(tmp_path, name):
    data, text = BAD[name]
    with pytest.raises(fl.DataError, match=text):
        fill(tmp_path, data=data)
    assert not list(tmp_path.rglob("*.part"))


def test_an_unreadable_item_says_which(tmp_path):
    class Broken(TensorDataset):
        def __getitem__(self, index):
            if index == 17:
                raise OSError("truncated")
            return super().__getitem__(index)

    with pytest.raises(fl.DataError, match="cannot be read") as error:
        fill(tmp_path, data=Broken(*dataset().tensors))
    assert error.value.where == "dataset[17]"


def test_known_samples_are_not_decoded(tmp_path):
    fill(tmp_path, data=Offering())
    again = Offering()
    data = fill(tmp_path, data=again)
    assert again.decoded <= frozen_pass.GOLDEN_ROWS
    assert [int(data[i][1]) for i in range(N)] == [i % 4 for i in range(N)]
    grown = Offering(N + 10)
    assert fill(tmp_path, data=grown).figures.computed == 10
    assert (
        grown.decoded <= frozen_pass.GOLDEN_ROWS + 20
    )  # 10 new ones, 6 to see that they are steady, 4 again at the end


def test_changed_targets_of_known_samples_are_taken(tmp_path):
    fill(tmp_path, data=Offering())
    again = Offering(shift=1)
    data = fill(tmp_path, data=again)
    assert (data.figures.computed, again.decoded, data.notes) == (0, frozen_pass.GOLDEN_ROWS, ())
    assert [int(data[i][1]) for i in range(N)] == [i % 4 + 1 for i in range(N)]


class Correcting(Offering):
    """It cannot tell its targets; its items correct one label that an attribute still holds."""

    target = property()  # none: hasattr is False

    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        return inputs, 9 if index == 17 else label


def test_without_target_the_items_are_read_for_their_targets(tmp_path):
    fill(tmp_path, data=Offering())
    data = fill(tmp_path, data=Correcting())
    assert (data.figures.computed, int(data[17][1])) == (0, 9)
    assert "let the dataset offer target(i)" in data.notes[0]


class Lying(Offering):
    """It tells other targets than its items do."""

    def target(self, index):
        return self.labels[index] + 1


def test_a_target_that_is_not_the_items_is_noticed(tmp_path):
    fill(tmp_path, data=Offering())
    data = fill(tmp_path, data=Lying())
    assert [int(data[i][1]) for i in range(N)] == [i % 4 for i in range(N)]
    assert "does not give the targets of the items" in data.notes[0]


def test_inputs_for_the_head_come_from_snapshots(tmp_path):
    fill(tmp_path, MaskedPart(), Masked())
    for start in (0, 7):
        again = Masked(start)
        data = fill(tmp_path, MaskedPart(), again)
        assert again.decoded <= frozen_pass.GOLDEN_ROWS
        assert data[3][0][1].tolist() == [start + 3.0, 1.0]


def test_the_snapshot_that_was_used_last_is_kept_longest(tmp_path):
    fill(tmp_path, MaskedPart(), Masked())
    for start in range(1, 9):
        fill(tmp_path, MaskedPart(), Masked(start, start + 3))
        fill(tmp_path, MaskedPart(), Masked())
    again = Masked()
    fill(tmp_path, MaskedPart(), again)
    assert again.decoded <= frozen_pass.GOLDEN_ROWS


def test_items_that_draw_without_effect_are_refused_with_one_view_as_the_remedy(tmp_path):
    class Draws:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            if random.random() > 2:  # as a transform with a probability of 1 draws
                raise AssertionError
            return torch.full((4,), float(index)), index % 2

    def trained(**options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        fl.freeze(model, through="0")
        return fl.fit(model, Draws(), epochs=2, batch_size=3, progress=False, **options).history

    with pytest.raises(fl.DataError, match="views=1 is enough"):
        trained(cache=tmp_path)
    cached, plain = trained(cache=tmp_path, views=1), trained(cache=False)
    assert [own.train_loss for own in cached] == [own.train_loss for own in plain]
