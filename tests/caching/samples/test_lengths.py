"""Samples of differing length: rows at their own length, padded on loading, equal to the uncached run or refused."""

import copy

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.caching.fill.frozen_pass import Computer
from frostline.core.order import epoch_order
from frostline.core.padding import Padding
from helpers_caching import Part
from helpers_lengths import LONGEST, WORDS, Sentences, pad, sentences


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
    assert any("rows of low are (2, 8) to (11, 8) large" in note for note in cached.notes)


def test_batches_are_padded_as_the_collate_function_pads(tmp_path):
    model, data = made(), sentences()
    cached = fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    names = [tensor.name for tensor in cached.frontier]
    for start, (features, target) in zip(range(0, 24, 5), cached.loader(5), strict=True):
        batch = pad(data[start : start + 5])
        assert torch.equal(features[names.index("input.ids")], batch["ids"])
        assert torch.equal(features[names.index("input.mask")], batch["mask"])
        assert torch.equal(target, batch["labels"])


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


def test_a_frozen_part_without_memory_is_not_taken_for_a_sample_of_the_wrong_size(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("no memory")

    model, data = made(), sentences()
    split = split_of(model, data)
    fl.FeatureCache(tmp_path).fill(split, data[:8], collate_fn=pad, progress=False)
    monkeypatch.setattr(split, "extract", full)
    with pytest.raises(Exception, match="no memory") as caught:
        fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad, progress=False)
    assert "samples of this size" not in str(caught.value)


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


def test_batches_do_not_follow_the_default_device(tmp_path):
    model, data = made(), sentences()
    cached = fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    expected = [features[0] for features, _ in cached.loader(4, by_length=True, shuffle=True)]
    with torch.device("meta"):
        part = cached.part(range(len(data)))
        found = [features[0] for features, _ in part.loader(4, by_length=True, shuffle=True)]
    assert all(map(torch.equal, found, expected))


def test_batches_by_length_hold_little_padding_and_every_sample(tmp_path):
    model, data = made(), sentences(96)
    cached = fl.FeatureCache(tmp_path).fill(split_of(model, data), data, collate_fn=pad, progress=False)
    loader, own = cached.loader(8, shuffle=True, seed=1, by_length=True), []
    places = [(mask.sum(), mask.numel()) for (_, mask, _), _ in loader]
    assert 1 - sum(int(used) for used, _ in places) / sum(whole for _, whole in places) <= 0.15
    for (ids, *_), _ in loader:
        own += [tuple(row[row > 0].tolist()) for row in ids]
    assert sorted(own) == sorted(tuple(ids.tolist()) for ids, _ in data)


class Sounds(nn.Module):
    """A convolution over sound without padding of its own, then a mean over the places of the sound."""

    def __init__(self, has_norm):
        super().__init__()
        norm = [nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3, padding=1)]
        self.low = nn.Sequential(nn.Conv1d(1, 4, 4, 4), *(norm if has_norm else []))
        self.high = nn.Linear(4, 2)

    def forward(self, x, size):
        y = self.low(x[:, None]).mT
        mask = torch.arange(y.shape[1]) < (size // 4)[:, None]
        return self.high((y * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


def sound(index):
    generator = torch.Generator().manual_seed(index)
    return torch.randn(4 * int(torch.randint(3, 9, (1,), generator=generator)), generator=generator), index % 2


def pad_sound(items):
    sounds = nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
    return (sounds, torch.tensor([len(x) for x, _ in items])), torch.tensor([label for _, label in items])


def test_sound_is_cached_where_the_frozen_part_does_not_see_the_padding(tmp_path):
    model, data = Sounds(has_norm=False), [sound(index) for index in range(12)]
    fl.freeze(model, through="low")
    split = fl.split(model, pad_sound(data[:4])[0])
    cached = fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad_sound, progress=False)
    (features, _), (inputs, _) = next(iter(cached.loader(6))), pad_sound(data[:6])
    model.eval()
    assert torch.allclose(split.head.eval()(*features), model(*inputs), atol=1e-6)
    assert "input.0" not in [tensor.name for tensor in split.frontier]  # sound itself is not stored


def test_batchnorm_before_a_padded_convolution_is_refused(tmp_path):
    model, data = Sounds(has_norm=True), [sound(index) for index in range(12)]
    with torch.no_grad():
        model.low[1].bias.fill_(1.0)
    fl.freeze(model, through="low")
    with pytest.raises(fl.NotCacheable, match="depends on the padding"):
        split = fl.split(model, pad_sound(data[:4])[0])
        fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad_sound, progress=False)


def test_a_frozen_part_that_cannot_follow_lengths_is_refused(tmp_path):
    with pytest.raises(fl.DataError, match="This frozen part takes samples of one length only"):
        fl.FeatureCache(tmp_path).fill(Part(), sentences(8), collate_fn=pad)


class Patches(nn.Module):
    """Pieces of 4 x 4 of an image, and a mean over the pieces that lie in it."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Conv2d(1, 4, 4, 4), nn.Linear(4, 2)

    def forward(self, x, size):
        y = self.low(x)
        rows, columns = (torch.arange(n) < (size[:, at] // 4)[:, None] for at, n in enumerate(y.shape[2:]))
        mask = rows[:, None, :, None] & columns[:, None, None]
        return self.high((y * mask).sum((2, 3)) / mask.sum((2, 3)))


def image(index):
    generator = torch.Generator().manual_seed(index)
    height, width = (4 * torch.randint(1, 5, (2,), generator=generator)).tolist()
    return torch.randn(1, height, width, generator=generator), index % 2


def pad_images(items):
    images = [x for x, _ in items]
    height, width = (max(x.shape[axis] for x in images) for axis in (1, 2))
    padded = [nn.functional.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    sizes = torch.tensor([x.shape[1:] for x in images])
    return (torch.stack(padded), sizes), torch.tensor([label for _, label in items])


def test_images_that_vary_along_two_axes_are_cached_where_no_layer_reaches_over_a_border(tmp_path):
    model, data = Patches(), [image(index) for index in range(16)]
    fl.freeze(model, through="low")
    split = fl.split(model, pad_images(data[:4])[0])
    cached = fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad_images, progress=False)
    (features, _), (inputs, _) = next(iter(cached.loader(6))), pad_images(data[:6])
    model.eval()
    assert torch.allclose(split.head.eval()(*features), model(*inputs), atol=1e-6)
    assert [tensor.shape for tensor in split.frontier][-1] == (4, -1, -1)


def test_a_frozen_part_of_ones_own_takes_one_length_only(tmp_path):
    part = Part()
    with pytest.raises(fl.DataError, match="takes samples of one length only"):
        fl.FeatureCache(tmp_path).fill(part, sentences(), collate_fn=pad, progress=False)


def test_a_row_that_varies_where_none_did_is_refused():
    part = Part()
    part.frontier = (fl.FrontierTensor("low", (-1, 3), torch.float32, 12, False),)
    computer = Computer(part, {}, Padding({"0": 0}))
    assert computer.compute(torch.ones(2, 5, 3), [0, 1])["low"].shape == (2, 5, 3)
    with pytest.raises(fl.NotCacheable, match="varies along an axis that did not vary"):
        computer.compute(torch.ones(2, 5, 4), [0, 1])


class Recurrent(nn.Module):
    """Reads as many places as it is told."""

    def __init__(self):
        super().__init__()
        self.words, self.low, self.high = nn.Embedding(WORDS, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, ids, size):
        packed = nn.utils.rnn.pack_padded_sequence(self.words(ids), size, batch_first=True, enforce_sorted=False)
        return self.high(self.low(packed)[1][0])


@pytest.mark.parametrize("line", ["words", "low"])
def test_a_recurrent_layer_is_told_the_sizes_of_the_samples(tmp_path, line):
    def told(items):
        ids, labels = (pad(items)[key] for key in ("ids", "labels"))
        return {"ids": ids, "size": torch.tensor([len(ids) for ids, _ in items]), "labels": labels}

    results = []
    for cache in (tmp_path, False):
        torch.manual_seed(0)
        model = Recurrent()
        fl.freeze(model, through=line)
        run = fl.fit(model, sentences(), collate_fn=told, cache=cache, epochs=2, batch_size=7, monitor=False)
        results.append([epoch.train_loss for epoch in run.history])
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_features_are_padded_under_autocast_too(tmp_path):
    results = []
    for cache in (tmp_path, False):
        run = fl.fit(
            made(), sentences(), collate_fn=pad, cache=cache, epochs=2, batch_size=7, monitor=False,
            precision="bf16-mixed",
        )  # fmt: skip
        results.append([epoch.train_loss for epoch in run.history])
    assert results[0] == pytest.approx(results[1], rel=1e-2)


def test_samples_of_differing_length_are_told_of_the_collate_function(tmp_path):
    with pytest.raises(fl.DataError, match="do not fit together") as caught:
        fl.fit(made(), [({"ids": ids, "mask": ids > 0}, label) for ids, label in sentences()], cache=tmp_path, epochs=1)
    assert "collate_fn=" in caught.value.do


def test_a_size_that_no_collated_sample_showed_is_refused(tmp_path):
    data = [(torch.arange(1, 5), 0)] * 130
    data[78] = (torch.arange(1, 8), 1)  # of 130 samples, 64 are looked at, and not this one
    model = made()
    split, cache = split_of(model, sentences()), fl.FeatureCache(tmp_path)
    cache.fill(split, sentences(), collate_fn=pad, progress=False)
    with pytest.raises(fl.DataError, match="their padding is unknown"):
        cache.fill(split, data, collate_fn=pad, progress=False)


def test_collate_pads_as_the_loader_does(tmp_path):
    data = sentences()
    cached = fl.FeatureCache(tmp_path).fill(split_of(made(), data), data, batch_size=8, collate_fn=pad, progress=False)
    own = torch.utils.data.DataLoader(cached, 8, collate_fn=cached.collate)
    for (features, target), (expected, labels) in zip(own, cached.loader(8), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))
        assert torch.equal(target, labels)


class FailsOnShortSamples(Sentences):
    """Raises an error of its own on short samples, as SpecAugment of wav2vec2 does in training."""

    def forward(self, ids, mask):
        if ids.shape[1] < 11:
            raise ValueError("mask_length has to be smaller than sequence_length")
        return super().forward(ids, mask)


def test_a_model_that_fails_on_short_samples_is_recorded_at_longer_ones(tmp_path):
    data = [(ids.repeat(8)[: 11 + at % 3], label) for at, (ids, label) in enumerate(sentences(12))]
    model = FailsOnShortSamples("first")
    fl.freeze(model, through="low")
    split = split_of(model, data)
    filled = fl.FeatureCache(tmp_path).fill(split, data, collate_fn=pad, progress=False)
    features, _ = next(iter(filled.loader(12)))
    model.eval()
    expected = model(**{key: value for key, value in pad(data).items() if key != "labels"})
    assert torch.allclose(split.head(*features), expected, atol=1e-5)
