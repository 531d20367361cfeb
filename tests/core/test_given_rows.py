"""A loop that changes the batch between the loader and the head."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import frostline as fl
from frostline.core.given_rows import GivenRows
from helpers_fit import data, fit, mlp


def filled(tmp_path, **options):
    model = mlp()
    fl.freeze(model, through="2")
    split = fl.split(model, data().tensors[0][:4])
    return split, fl.FeatureCache(tmp_path).fill(split, data(), progress=False, **options)


def normalised(features, target):
    return (features - features.mean(0)) / (features.std(0) + 1), target


def mixed(features, target):
    return 0.6 * features + 0.4 * features.flip(0), target


def erased(features, target):
    changed = features.clone()
    changed[::2, :8] = 7.0
    return changed, target


def scaled(features, target):
    return features * 1.02, target


CHANGES = [normalised, mixed, erased, scaled]


def train(split, loader, change=None, epochs=1):
    optimizer = torch.optim.SGD(split.head.parameters(), lr=0.1)
    split.head.train()
    for _ in range(epochs):
        for features, target in loader:
            inputs, labels = change(features[0], target) if change else (features[0], target)
            nn.functional.cross_entropy(split.head(inputs), labels).backward()
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_own", [True, False], ids=["loader", "DataLoader"])
def test_a_changed_batch_is_refused(tmp_path, change, is_own):
    split, features = filled(tmp_path)
    loader = features.loader(16, shuffle=True) if is_own else DataLoader(features, 16, collate_fn=features.collate)
    with pytest.raises(fl.DataError, match="The batch was changed between the loader and the head") as error:
        train(split, loader, change)
    assert error.value.where.startswith("split.head, ")
    assert "rows that were compared are not rows of the loader" in error.value.received
    assert "loader(mix=...)" in error.value.do


def test_a_change_that_begins_later_is_found(tmp_path):
    split, features = filled(tmp_path)
    calls = []

    def later(inputs, target):
        calls.append(1)
        return (mixed if len(calls) > 5 else lambda *same: same)(inputs, target)

    with pytest.raises(fl.DataError, match="The batch was changed"):
        train(split, features.loader(16), later, epochs=6)
    assert len(calls) == 8


LEFT = {
    "as it is": lambda features, target: (features, target),
    "shuffled": lambda features, target: (features.flip(0), target.flip(0)),
    "a part": lambda features, target: (features[3:9], target[3:9]),
    "one sample less": lambda features, target: (features[:-1].clone(), target[:-1]),
    "through bfloat16": lambda features, target: (features.bfloat16().float(), target),
    "through numpy": lambda features, target: (torch.from_numpy(features.numpy().copy()), target),
}


@pytest.mark.parametrize("name", LEFT)
def test_rows_of_the_loader_are_taken_in_any_order(tmp_path, name):
    split, features = filled(tmp_path)
    train(split, features.loader(16, shuffle=True), LEFT[name], epochs=2)


def test_batches_that_are_kept_or_looked_ahead_are_taken(tmp_path):
    split, features = filled(tmp_path)
    train(split, list(features.loader(4)) * 2)
    loader = iter(features.loader(4))
    ahead = [next(loader) for _ in range(3)]
    train(split, (ahead.pop(0) for _ in range(3)))
    half = features.part(range(24))
    train(split, half.loader(8), LEFT["shuffled"])
    train(split, DataLoader(features, 16, num_workers=1, collate_fn=features.collate))


def test_features_from_elsewhere_are_not_judged(tmp_path):
    split, features = filled(tmp_path)
    next(iter(features.loader(16)))
    split.head.train()
    split.head(*split.extract(torch.randn(5, 6)))  # fresh samples beside stored ones
    next(iter(features.loader(16)))
    split.head.eval()
    split.head(torch.randn(5, 16))  # what an explanation of the model does
    split.head.train()
    split.head(torch.randn(5, 16))  # and a plain call without any loader


def test_a_mix_of_the_loader_is_not_judged(tmp_path):
    def mix(rows, target):
        return rows.lerp(rows.flip(0), 0.3), target

    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2))
    fl.freeze(model, through="0")
    linear = fl.split(model, data().tensors[0][:4])
    rows = fl.FeatureCache(tmp_path).fill(linear, data(), progress=False)
    linear.head.train()
    for inputs, _ in rows.loader(16, mix=mix):
        linear.head(*inputs)


def test_a_change_on_purpose_is_announced(tmp_path):
    split, features = filled(tmp_path)
    train(split, features.loader(16, may_change=True), mixed)


def test_copies_of_the_head_are_not_judged_and_a_head_is_pickled_without_rows(tmp_path):
    split, features = filled(tmp_path)
    twin = copy.deepcopy(split.head)
    twin.train()
    next(iter(features.loader(4)))
    twin(torch.randn(5, 16))
    given = pickle.loads(pickle.dumps(split.head.given))
    assert not given._last


def test_a_run_of_fit_over_cached_features_passes(tmp_path):
    split, features = filled(tmp_path)
    result = fit(split.head, features, epochs=3, batch_size=16, precision="bf16-true")
    assert len(result.history) == 3


def test_a_line_that_a_callback_moves_is_found(tmp_path):
    split, features = filled(tmp_path)
    train(split, features.loader(16))
    split.head.bound_model[0].requires_grad_(True)  # as callbacks that thaw a backbone do
    with pytest.raises(fl.SplitError, match="The frost line was moved after the split") as error:
        train(split, features.loader(16), epochs=2)
    assert error.value.received == "'0.bias', '0.weight'"


def test_nothing_given_is_nothing_to_judge():
    GivenRows().check((torch.ones(2, 3),))


def ahead(split, features):
    """A loop that looks twelve batches ahead."""
    kept = []
    for batch in features.loader(2, shuffle=True):
        kept.append(batch)
        if len(kept) > 12:
            yield kept.pop(0)


def replayed(split, features):
    """A loop that trains each batch beside the first one."""
    first = None
    for rows, target in features.loader(2):
        first = first or (rows[0], target)
        yield (torch.cat([rows[0], first[0]]),), torch.cat([target, first[1]])


def looked_at(split, features):
    """A loop that looks at one sample, then reads in worker processes."""
    assert len(features[0]) == 2
    yield from DataLoader(features, 16, num_workers=1, collate_fn=features.collate)


def looked_at_validation(split, features):
    """A loop that looks at a batch of validation data, then reads in worker processes."""
    validation = features.part([1, 2, 3]).loader(3)
    assert next(iter(validation))
    yield from DataLoader(features, 16, num_workers=1, collate_fn=features.collate)


@pytest.mark.parametrize("loop", [ahead, replayed, looked_at, looked_at_validation])
@pytest.mark.parametrize("storage", ["exact", "int8"])
def test_rows_that_were_not_given_out_lately_are_looked_for_among_all(tmp_path, loop, storage):
    split, features = filled(tmp_path, storage=storage)
    train(split, loop(split, features))
    with pytest.raises(fl.DataError, match="The batch was changed"):
        train(split, loop(split, features), normalised)


@pytest.mark.parametrize("options", [{"may_change": True}, {"mix": lambda rows, target: (rows * 0.5, target)}])
def test_a_loader_beside_one_whose_batches_may_change(tmp_path, options):
    model = nn.Sequential(nn.Linear(6, 16, bias=False), nn.Linear(16, 2))
    fl.freeze(model, through="0")
    split = fl.split(model, data().tensors[0][:4])
    features = fl.FeatureCache(tmp_path).fill(split, data(), progress=False)
    both = zip(features.loader(8, **options), features.part(range(16)).loader(8), strict=False)
    train(split, (batch for pair in both for batch in pair), normalised if "may_change" in options else None)
    with pytest.raises(fl.DataError, match="The batch was changed"):
        train(split, features.loader(2), normalised)


class Summed(nn.Linear):
    def forward(self, x_BD):
        return super().forward(x_BD).sum(1)


class OfNumbers(nn.Linear):
    def forward(self, x_B):
        return super().forward(x_B[:, None])


class Scores(nn.Module):
    """Its frozen layers give one number for each sample."""

    def __init__(self):
        super().__init__()
        self.low, self.high = Summed(4, 3), OfNumbers(1, 2)

    def forward(self, x_BD):
        return self.high(self.low(x_BD))


def test_features_of_one_number_are_compared_as_others_are(tmp_path):
    model = Scores()
    fl.freeze(model, through="low")
    items = [(row, at % 2) for at, row in enumerate(torch.randn(12, 4))]
    split = fl.split(model, torch.stack([row for row, _ in items[:4]]))
    assert split.frontier[0].shape == ()
    loader = fl.FeatureCache(tmp_path).fill(split, items, progress=False).loader(batch_size=4)
    for features, _ in loader:
        split.head(*features)
    with pytest.raises(fl.DataError, match="changed between the loader and the head"):
        for features, _ in loader:
            split.head(*(9 * feature for feature in features))


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_features_of_one_number_are_rounded_as_others_are(tmp_path, storage):
    model = Scores()
    fl.freeze(model, through="low")
    items = [(row, at % 2) for at, row in enumerate(torch.randn(12, 4))]
    result = fl.fit(model, items, epochs=1, cache=tmp_path, storage=storage, progress=False)
    assert result.cache.samples == 12
    with torch.no_grad():
        model.low.weight.fill_(float("inf"))
    with pytest.raises(fl.DataError, match="not finite"):
        fl.fit(model, items, epochs=1, cache=tmp_path, storage=storage, progress=False)
