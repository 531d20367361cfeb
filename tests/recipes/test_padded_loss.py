"""`fit` over samples of differing length: the same losses cached and uncached; what it does not take."""

import copy

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_caching import fill
from helpers_lengths import Sentences, pad, sentences


def test_cached_and_uncached_runs_have_the_same_losses(tmp_path):
    torch.manual_seed(0)
    model, data = Sentences(), sentences()
    fl.freeze(model, through="low")
    plain, common = copy.deepcopy(model), {"epochs": 2, "batch_size": 8, "collate_fn": pad, "progress": False}
    cached = fl.fit(model, data, data[:6], cache=tmp_path, **common)
    uncached = fl.fit(plain, data, data[:6], cache=False, **common)
    for ours, theirs in zip(cached.history, uncached.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-6)
        assert ours.val_loss == pytest.approx(theirs.val_loss, abs=1e-6)
    assert cached.cache.computed == 24


def test_batches_of_like_length_are_the_same_cached_and_uncached_and_hold_little_padding(tmp_path):
    torch.manual_seed(0)
    model, data = Sentences(), sentences(48)
    fl.freeze(model, through="low")
    plain, sizes = copy.deepcopy(model), []

    def noted(items):
        sizes.append(sorted(len(ids) for ids, _ in items))
        return pad(items)

    common = {"epochs": 2, "batch_size": 8, "by_length": True, "progress": False}
    cached = fl.fit(model, data, cache=tmp_path, collate_fn=pad, **common)
    uncached = fl.fit(plain, data, cache=False, collate_fn=noted, **common)
    for ours, theirs in zip(cached.history, uncached.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-6)
    waste = [1 - sum(own) / (len(own) * own[-1]) for own in sizes[-6:]]
    assert max(waste) < 0.3
    assert len({own[-1] for own in sizes[-6:]}) > 2


def test_cached_sentences_are_sorted_by_their_own_lengths(tmp_path):
    torch.manual_seed(0)
    model, data = Sentences(), sentences(48)
    fl.freeze(model, through="low")
    split = fl.split(model, {name: own for name, own in pad(data[:4]).items() if name != "labels"})
    filled = fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad, progress=False)
    run = fl.fit(split.head, filled, epochs=1, batch_size=8, by_length=True, progress=False)
    assert len(run.history) == 1
    own = torch.tensor([len(ids) for ids, _ in data])
    given = [features[0].shape[1] for features, _ in filled.loader(8, by_length=own)]
    assert given == sorted(given)
    with pytest.raises(fl.DataError, match="one number for each"):
        filled.loader(8, by_length=own[:-1])


def test_data_of_one_length_are_not_sorted_by_it():
    with pytest.raises(fl.DataError, match="all samples have one length"):
        fl.fit(Sentences(), sentences(), by_length=True)


def test_a_collate_function_is_a_function_and_not_for_features(tmp_path):
    model, data = Sentences(), sentences()
    with pytest.raises(fl.DataError, match="collate_fn"):
        fl.fit(model, data, collate_fn=3)
    with pytest.raises(fl.DataError, match="cached features are not made by a collate function"):
        fl.fit(nn.Linear(6, 4), fill(tmp_path), collate_fn=pad)


def pad_labels(items):
    batch = pad([(ids, 0) for ids, _ in items])
    return {**batch, "labels": torch.nn.utils.rnn.pad_sequence([ids % 2 for ids, _ in items], True, pad_labels.value)}


def transposed(output, target):
    return torch.nn.functional.cross_entropy(output.transpose(1, 2), target)


def test_a_loss_that_leaves_padded_places_out_is_the_same(tmp_path):
    torch.manual_seed(0)
    model, data, pad_labels.value = Sentences("each"), sentences(), -100
    fl.freeze(model, through="low")
    plain = copy.deepcopy(model)
    common = {"epochs": 1, "batch_size": 8, "collate_fn": pad_labels, "progress": False, "loss": transposed}
    cached = fl.fit(model, data, cache=tmp_path, **common)
    uncached = fl.fit(plain, data, cache=False, **common)
    assert cached.history[0].train_loss == pytest.approx(uncached.history[0].train_loss, abs=1e-6)


def test_a_loss_that_reads_padded_places_is_refused(tmp_path):
    model, data, pad_labels.value = Sentences("each"), sentences(96), 0
    fl.freeze(model, through="low")
    data.sort(key=lambda item: len(item[0]))
    with pytest.raises(fl.DataError, match="reads outputs at padded places"):
        fl.fit(model, data, epochs=1, collate_fn=pad_labels, loss=transposed, cache=tmp_path, progress=False)


class OfPlaces(Sentences):
    """Logits (B, C, T) as cross entropy takes them, or small numbers (B, T)."""

    def __init__(self, *, is_small=False):
        super().__init__("each")
        self.is_small = is_small

    def forward(self, ids, mask):
        output = super().forward(ids, mask)
        return 0.01 * output[..., 0] if self.is_small else output.transpose(1, 2)


@pytest.mark.parametrize("loss", ["cross_entropy", torch.nn.CrossEntropyLoss()])
@pytest.mark.parametrize("cache", [True, False])
def test_a_loss_that_compares_sizes_takes_targets_of_each_place(tmp_path, loss, cache):
    torch.manual_seed(0)
    model, data, pad_labels.value = OfPlaces(), sentences(), -100
    fl.freeze(model, through="low")
    run = fl.fit(model, data, data[:9], loss=loss, cache=tmp_path if cache else False, epochs=1, batch_size=8,
                 collate_fn=pad_labels, progress=False)  # fmt: skip
    assert run.history[0].train_loss > 0


def pad_numbers(items):
    numbers = [0.001 * ids for ids, _ in items]
    return {**pad(items), "labels": torch.nn.utils.rnn.pad_sequence(numbers, True)}


def test_a_small_loss_that_reads_padded_places_is_refused(tmp_path):
    torch.manual_seed(0)
    model, data = OfPlaces(is_small=True), sentences()
    fl.freeze(model, through="low")
    with pytest.raises(fl.DataError, match="reads outputs at padded places"):
        fl.fit(model, data, epochs=1, collate_fn=pad_numbers, loss="mse", cache=tmp_path, progress=False)
