"""Samples of differing length: rows at their own length, padded on loading, equal to the uncached run or refused."""

import copy

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.caching.lengths import of_any_length
from frostline.core.order import epoch_order
from helpers_lengths import LONGEST, Sentences, pad, sentences


def made(pool="first", seed=0):
    torch.manual_seed(seed)
    model = Sentences(pool)
    fl.freeze(model, through="low")
    return model


def split_of(model, data, collate=pad):
    inputs = {key: value for key, value in collate(data[:4]).items() if key != "labels"}
    return fl.split(model, inputs)


def losses(call, parameters, batches):
    optimizer, found = torch.optim.AdamW(parameters, 1e-2), []
    for batch, target in batches:
        loss = nn.functional.cross_entropy(call(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_cached_and_uncached_losses_are_the_same_in_a_loop_of_ones_own(tmp_path):
    model, data = made(), sentences()
    plain, split = copy.deepcopy(model), split_of(model, data)
    head = split.head
    cached = fl.FeatureCache(tmp_path).fill(split, data, batch_size=8, collate_fn=pad, progress=False)
    loader = cached.loader(8, shuffle=True, seed=3)
    own = losses(lambda features: head(*features), head.parameters(), [b for _ in range(2) for b in loader])

    def batches():
        for epoch in range(2):
            order = epoch_order(len(data), shuffle=True, seed=3, epoch=epoch).tolist()
            for start in range(0, len(data), 8):
                batch = pad([data[at] for at in order[start : start + 8]])
                target = batch.pop("labels")
                yield batch, target

    trained = [p for p in plain.parameters() if p.requires_grad]
    assert losses(lambda batch: plain(**batch), trained, batches()) == pytest.approx(own, abs=1e-6)


def test_rows_are_stored_at_their_own_length_and_known_again(tmp_path):
    model, data = made(), sentences()
    split, cache = split_of(model, data), fl.FeatureCache(tmp_path)
    cached = cache.fill(split, data, batch_size=8, collate_fn=pad, progress=False)
    for index in (0, 5, 23):
        features, target = cached[index]
        assert {len(own) for own in features} == {len(data[index][0])}
        assert target == data[index][1]
    tokens = sum(len(ids) for ids, _ in data)
    stored = sum(t.bytes_per_sample for t in split.frontier) // 8 * tokens  # recorded at 8 places
    assert cached.figures.bytes - stored < 10_000  # keys, shapes, the header
    again = cache.fill(split, [*data, data[3]], batch_size=8, collate_fn=pad, progress=False)
    assert (again.figures.computed, again.figures.reused) == (0, 25)
    assert cache.verify() == ()


def test_batches_are_padded_as_the_collate_function_pads(tmp_path):
    model, data = made(), sentences()
    cached = fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    names = [tensor.name for tensor in cached.frontier]
    for start, (features, target) in zip(range(0, 24, 5), cached.loader(5), strict=True):
        batch = pad(data[start : start + 5])
        assert torch.equal(features[names.index("input.ids")], batch["ids"])
        assert torch.equal(features[names.index("input.mask")], batch["mask"])
        assert torch.equal(target, batch["labels"])


@pytest.mark.parametrize(
    ("collate", "reason"),
    [
        (lambda items: pad(items[:2]), "another number of rows"),
        (lambda items: pad(sorted(items, key=lambda item: -len(item[0]))), "sorts"),
        (lambda items: {k: v[:, : min(len(i) for i, _ in items)] if v.dim() > 1 else v for k, v in pad(items).items()},
         "truncates"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"].flip(0)}, "sorts"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"] % (len(items) + 20)}, "changes the values"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"] * torch.randint(1, 9, (1,))}, "is random"),
    ],
)  # fmt: skip
def test_a_function_that_does_more_than_pad_is_refused(collate, reason):
    model, data = made(), sentences()
    with pytest.raises(fl.DataError, match=f"does more than pad: it .*{reason}"):
        of_any_length(split_of(model, data), data, collate)


def test_a_batch_axis_in_second_place_is_refused():
    model, data = made(), sentences()

    def collate(items):
        return {key: value.T if value.dim() > 1 else value for key, value in pad(items).items()}

    with pytest.raises(fl.DataError, match="batch axis of one"):
        of_any_length(split_of(model, data), data, collate)


def test_a_sample_without_places_is_named(tmp_path):
    model, data = made(), sentences()
    data[7] = (data[7][0][:0], 1)
    with pytest.raises(fl.DataError, match="length 0") as caught:
        fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    assert "dataset[7]" in caught.value.where


def test_a_sample_beyond_the_positions_is_named(tmp_path):
    model, data = made(), sentences()
    data[9] = (torch.ones(LONGEST + 1, dtype=torch.int64), 1)
    with pytest.raises(fl.DataError, match="frozen part fails") as caught:
        fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    assert "sample 9" in caught.value.where
    assert str(LONGEST + 1) in caught.value.received


def test_frozen_features_that_see_the_padding_are_refused(tmp_path):
    model, data = made(), sentences()

    def without_mask(items):
        batch = pad(items)
        return {**batch, "mask": torch.ones_like(batch["mask"])}

    with pytest.raises(fl.NotCacheable, match="depends on the padding") as caught:
        fl.FeatureCache(tmp_path).fill(
            split_of(model, data, without_mask), data, collate_fn=without_mask, progress=False
        )
    assert "attention mask" in caught.value.do


def test_a_head_that_reads_padded_places_is_refused(tmp_path):
    model, data = made("mean"), sentences()
    with pytest.raises(fl.SplitError, match="trainable part reads padded places"):
        fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)


def test_outputs_at_each_place_are_compared_at_the_places_of_the_samples(tmp_path):
    model, data = made("each"), sentences()
    cached = fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    assert len(cached) == 24


def test_a_split_that_follows_lengths_asks_for_the_collate_function(tmp_path):
    model, data = made(), sentences()
    split, cache = split_of(model, data), fl.FeatureCache(tmp_path)
    cache.fill(split, data, collate_fn=pad, progress=False)
    with pytest.raises(fl.DataError, match="no collate function says"):
        cache.fill(split, data, progress=False)
