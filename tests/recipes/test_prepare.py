from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.core import timing
from frostline.recipes import prepare
from helpers_fit import N, data, fit, mlp
from helpers_splitting import D, Net


def test_nothing_frozen_trains_uncached_and_says_why(capsys):
    result = fit(mlp(), epochs=1, progress=True)
    assert result.cache is None
    assert "Nothing is frozen" in capsys.readouterr().err


def test_a_cached_dataset_trains_the_head(tmp_path):
    model = mlp()
    fl.freeze(model, through="2")
    split = fl.split(model, data().tensors[0][:4])
    cached = fl.FeatureCache(tmp_path).fill(split, data(), progress=False)
    before = model[7].weight.detach().clone()
    result = fit(split.head, cached, cached, epochs=2)
    assert result.cache.samples == N
    assert not torch.equal(model[7].weight, before)
    with pytest.raises(fl.DataError, match="Training data is cached, validation data is not"):
        fit(split.head, cached, data())


class Averaging(nn.Module):
    """Keeps a moving average itself, in training and in evaluation."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(D, D), nn.Linear(D, 3)
        self.register_buffer("mean", torch.zeros(D))

    def forward(self, x):
        h = self.first(x)
        self.mean = self.mean * 0.9 + h.detach().mean(0) * 0.1
        return self.out(h - self.mean)


@pytest.mark.parametrize("is_head", [False, True])
def test_looking_at_the_first_outputs_moves_no_state_that_the_model_keeps_itself(tmp_path, is_head):
    """The head runs the model's own forward here, so that the state is not the head's but the model's."""
    items = TensorDataset(torch.randn(12, D, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3)
    means = []
    for cache in (False, tmp_path):
        torch.manual_seed(0)
        model, train = Averaging(), items
        fl.freeze(model, modules=[model.first])
        trained, kept = model, model.mean
        if is_head and cache:
            split = fl.split(model, items.tensors[0][:4])
            train, trained = fl.FeatureCache(cache).fill(split, items, progress=False), split.head
        cached = {} if train is not items else {"cache": fl.FeatureCache(cache) if cache else False}
        fl.fit(trained, train, loss="cross_entropy", epochs=1, batch_size=4, monitor=False, progress=False, **cached)
        assert model.mean is not kept
        means.append(model.mean)
    assert torch.allclose(*means, atol=1e-6)


def test_a_second_run_computes_nothing_and_says_how_long_the_frozen_part_takes(tmp_path):
    fit(mlp(), freeze="2", epochs=1, cache=tmp_path)
    again = fit(mlp(), freeze="2", epochs=1, cache=tmp_path)
    assert (again.cache.computed, again.cache.reused) == (0, N)
    assert again.timings.uncached_s > 0


def test_damage_that_was_mended_is_said(tmp_path, capsys):
    result = fit(mlp(), freeze="2", epochs=1, cache=tmp_path)
    shard = max(Path(result.cache.path).glob("shards/*"), key=lambda path: path.stat().st_size)
    shard.chmod(0o600)
    shard.write_bytes(b"damaged")
    assert fit(mlp(), freeze="2", epochs=1, cache=tmp_path).cache.computed == N
    assert "was set aside" in capsys.readouterr().err


def test_every_row_is_computed_once_and_the_proof_costs_the_same_for_more_rows(tmp_path):
    costs = []
    for count in (N, 3 * N):
        model, rows = mlp(), []
        model[0].register_forward_hook(lambda module, args, output, rows=rows: rows.append(len(output)))
        fit(model, data(count), freeze="2", epochs=1, batch_size=16, cache=tmp_path / str(count))
        costs.append(sum(rows))
    assert costs[1] - costs[0] == 2 * N
    same = mlp()
    fl.freeze(same, through="2")
    stored = fl.FeatureCache(tmp_path / str(N)).fill(fl.split(same, data().tensors[0][:4]), data(), progress=False)
    assert stored.figures.computed == 0


def test_the_uncached_estimate_is_that_of_rows_without_their_proof(tmp_path, monkeypatch):
    model, rows = mlp(), []
    model[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    clock = SimpleNamespace(perf_counter=lambda: float(sum(rows)))  # time goes by in rows of the frozen part
    monkeypatch.setattr(timing, "time", clock)
    result = fit(model, freeze="2", epochs=2, batch_size=N // 2, cache=tmp_path)
    of_one_epoch = (result.timings.uncached_s - result.timings.epochs_s) / 2
    assert of_one_epoch == pytest.approx(N)


def test_the_uncached_estimate_holds_the_validation_and_is_the_same_in_a_second_start(tmp_path, monkeypatch):
    estimates = []
    for _ in range(2):
        model, rows = mlp(), []
        model[0].register_forward_hook(lambda module, args, output, rows=rows: rows.append(len(output)))
        monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda rows=rows: float(sum(rows))))
        timings = fit(model, val=data(16), freeze="2", epochs=2, cache=tmp_path).timings
        estimates.append((timings.uncached_s - timings.epochs_s) / 2)
    assert estimates == [pytest.approx(N + 16)] * 2


def started(tmp_path, model=None, train=None, **options):
    """Rows that a start runs through the frozen part."""
    model, rows = model or mlp(), []
    model[0].register_forward_hook(_counting(rows))
    fit(model, train, freeze="2", epochs=1, cache=tmp_path, **options)
    return sum(rows)


def _counting(rows):
    return lambda module, args, output: rows.append(len(output))


RECORDED, GOLDEN = 14, 16  # rows of the recordings of a split and of a fill


def test_a_second_start_runs_recordings_and_golden_rows_only(tmp_path):
    first = started(tmp_path)
    assert first > 100 + N
    assert started(tmp_path) == RECORDED + GOLDEN
    assert started(tmp_path, val=data(16)) > RECORDED + GOLDEN  # the head has to hold in evaluation mode, too
    assert started(tmp_path, val=data(16)) == RECORDED + 2 * GOLDEN  # a second fill


class Read(torch.utils.data.Dataset):
    """A dataset of files, as it were: items are counted when they are read."""

    fingerprint = "none"

    def __init__(self):
        self.rows, self.read = data(), []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.read.append(index)
        return self.rows[index]

    def sample_key(self, index):
        return str(index).encode()

    def target(self, index):
        return int(self.rows[index][1])


def test_a_second_start_reads_the_first_samples_and_golden_rows_only(tmp_path):
    started(tmp_path, train=Read())
    own = Read()
    started(tmp_path, train=own)
    golden = np.linspace(0, N - 1, GOLDEN).astype(int).tolist()
    assert own.read == [*range(8), *golden]


def test_more_samples_are_read_where_values_steer_the_model(tmp_path):
    class Mask(torch.utils.data.Dataset):
        def __init__(self):
            self.read = set()

        def __len__(self):
            return 40

        def __getitem__(self, index):
            self.read.add(index)
            return {"x": torch.randn(D, generator=torch.Generator().manual_seed(index)),
                    "mask": torch.ones(D) if index < 30 else torch.zeros(D), "label": index % 2}  # fmt: skip

    seen = []
    for forward in (lambda m, x, mask: m.high(m.low(x) * mask), _masked):
        own, model = Mask(), Net(forward)
        with monkeypatched_fill(own, seen):
            fit(model, own, epochs=1, cache=tmp_path, batch_size=4)
    assert seen == [8, 32]


@contextmanager
def monkeypatched_fill(dataset, seen):
    """Notes how many items were read when the cache is filled."""
    real = prepare.fill_as_planned

    def fill(*given, **options):
        seen.append(len(dataset.read))
        return real(*given, **options)

    prepare.fill_as_planned = fill
    try:
        yield
    finally:
        prepare.fill_as_planned = real


def test_other_weights_of_the_head_need_no_new_proof(tmp_path):
    started(tmp_path)
    model = mlp()
    with torch.no_grad():
        model[7].weight.mul_(3)
    assert started(tmp_path, model) == RECORDED + GOLDEN


def _frozen_bit(monkeypatch):
    model = mlp()
    model[0].weight.data[0, 0] = torch.nextafter(model[0].weight[0, 0].detach(), torch.tensor(9.0))
    return {"model": model}


def _other_dropout(monkeypatch):
    model = mlp()
    model[4].p = 0.2
    return {"model": model}


def _other_samples(monkeypatch):
    inputs, targets = data().tensors
    return {"train": torch.utils.data.TensorDataset(inputs.flip(0), targets.flip(0))}


def _other_torch(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "99.0")
    return {}


@pytest.mark.parametrize("change", [_frozen_bit, _other_dropout, _other_samples, _other_torch])
def test_what_a_proof_depends_on_has_it_made_again(tmp_path, monkeypatch, change):
    started(tmp_path)
    assert started(tmp_path) == RECORDED + GOLDEN
    assert started(tmp_path, **change(monkeypatch)) > 100


def test_another_precision_has_the_proof_made_again(tmp_path):
    started(tmp_path)
    assert started(tmp_path, precision="64-true") > 100
    assert started(tmp_path, precision="bf16-mixed") > 100


def test_a_refused_split_is_refused_in_every_start(tmp_path):
    few = [(torch.randn(D), at % 2) for at in range(8)]
    for _ in range(2):
        model = Net(lambda m, batch: m.high(m.mid(m.low(batch) * (m.low(batch)[:1].abs().max() < 20))),
                    mid=torch.nn.Linear(D, D))  # fmt: skip
        model.mid.requires_grad_(False)
        with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
            fl.fit(model, few, epochs=1, cache=tmp_path, progress=False)
    assert not list(tmp_path.rglob("proofs/*"))


def test_fit_says_before_the_fill_that_a_cache_saves_no_time(tmp_path, capsys):
    fit(mlp(), freeze="2", epochs=1, cache=tmp_path / "one", progress=True)
    said = capsys.readouterr().err
    assert "cache: A cache saves no time in this run: the frozen part takes about" in said
    assert f"for {N} samples in 1 epoch without one" in said
    assert said.index("saves no time") < said.index("epoch 1")
    fit(mlp(), freeze="2", epochs=1, cache=tmp_path / "one", progress=True)
    fit(mlp(), freeze="2", epochs=1, cache=tmp_path / "two", progress=False)
    assert "saves no time" not in capsys.readouterr().err  # all is stored; and nobody wants to hear of it


def test_batches_of_one_train(tmp_path):
    models = [torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    few = [(torch.randn(16), at % 3) for at in range(3)]
    for model, cache in zip(models, (tmp_path, False), strict=True):
        fl.fit(model, few, epochs=2, batch_size=1, freeze="1", cache=cache, progress=False)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def _masked(m, x, mask):
    low = F.linear(x, m.low.weight, m.low.bias)  # not a call that a head could answer
    if mask.all():
        return m.high(low)
    return m.high((low * mask).detach()) * mask


def test_an_example_shows_what_the_first_samples_do_not(tmp_path):
    few = [({"x": torch.randn(8), "mask": torch.ones(1) if at < 40 else torch.zeros(1)}, at % 8) for at in range(48)]
    few = [{**inputs, "label": label} for inputs, label in few]
    options = {"epochs": 2, "batch_size": 8, "progress": False}
    with pytest.raises(fl.SplitError, match="another path for this batch") as error:
        fl.fit(Net(_masked), few, cache=tmp_path / "a", **options)
    assert "frostline.fit(..., example=...)" in error.value.do
    example = {"x": torch.randn(4, 8), "mask": torch.tensor([[1.0], [0.0], [1.0], [1.0]])}
    cached, plain = Net(_masked), Net(_masked)
    plain.load_state_dict(cached.state_dict())
    fl.fit(cached, few, cache=tmp_path / "b", example=example, **options)
    fl.fit(plain, few, cache=False, example=example, **options)
    for one, other in zip(cached.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_an_example_that_is_none_is_refused(tmp_path):
    with pytest.raises(fl.DataError, match="example batch is too small"):
        fit(mlp(), freeze="2", epochs=1, cache=tmp_path, example=data().tensors[0][:1])


def test_noise_that_is_off_is_said(tmp_path, capsys):
    model = Net(lambda m, x: m.high(m.mid(F.dropout(m.low(x), 0.5, m.training))), mid=torch.nn.Linear(8, 8))
    model.mid.requires_grad_(False)
    few = [(torch.randn(8), at % 8) for at in range(6)]
    fl.fit(model, few, epochs=1, batch_size=3, cache=tmp_path, progress=False)
    assert "split: " in (said := capsys.readouterr().err)
    assert "runs in inference mode: it feeds frozen layers" in said


def _shared_dropout(m, batch):
    low = m.low(batch)
    middle = m.mid(F.dropout(m.drop(low), 0.3, m.training))
    return m.high(F.dropout(m.drop(middle), 0.3, m.training))


def test_a_cached_and_an_uncached_training_leave_out_the_same_noise(tmp_path, capsys):
    trained = []
    for cache in (tmp_path, False):
        torch.manual_seed(0)
        model = Net(_shared_dropout, mid=torch.nn.Linear(D, D), drop=torch.nn.Dropout(0.4))
        for layer in (model.low, model.mid):
            layer.requires_grad_(False)
        samples = torch.utils.data.TensorDataset(torch.randn(11, D), torch.arange(11) % 2)
        fit(model, samples, epochs=2, batch_size=4, cache=cache)
        trained.append(model.high.weight.detach())
        assert capsys.readouterr().err.count("it feeds frozen layers") == 2
        assert not model._forward_hooks
    torch.testing.assert_close(*trained)


def _stashing(m, batch):
    m.stash = m.low(batch)
    return m.high(m.stash)


@pytest.mark.parametrize("given", ["loss", "metric", "metrics"])
def test_a_loss_or_metric_that_reads_what_the_frozen_part_leaves_is_refused(tmp_path, given):
    model, samples = Net(_stashing), torch.utils.data.TensorDataset(torch.randn(12, D), torch.arange(12) % D)

    def score(output, target):
        return F.cross_entropy(output, target) + model.stash.mean()

    options = {"loss": {"loss": score}, "metric": {"metric": score}, "metrics": {"metric": {"kept": score}}}[given]
    with pytest.raises(fl.SplitError, match="reads 'stash'") as error:
        fit(model, samples, epochs=1, cache=tmp_path, **options)
    assert "return that value from forward" in error.value.do
    fit(model, samples, epochs=1, cache=False, **options)


def test_a_collate_function_whose_targets_are_no_table_of_rows_trains_without_a_cache():
    class Boxes(nn.Module):
        """As detectors: targets are a dict for each image, with as many boxes as it has; they are inputs too."""

        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)
            self.low.register_buffer("size", torch.ones(1))

        def forward(self, x, labels):
            assert all(len(own["boxes"]) == len(own["kinds"]) == int(own["count"]) for own in labels)
            assert x.max() < 10
            out = self.high(self.low(x))
            return torch.stack(
                [(out[at] - own["boxes"].mean(0)).square().mean() for at, own in enumerate(labels)]
            ).sum()

    def collated(items):
        labels = [own for _, own in items]
        return {"x": torch.stack([x for x, _ in items]), "labels": labels}, labels

    counts = [3, 1, 2, 5, 4, 1, 2, 6]
    items = [
        (torch.rand(4), {"boxes": torch.rand(n, 2), "kinds": torch.arange(n), "count": torch.tensor(n)}) for n in counts
    ]
    model = Boxes()
    fl.freeze(model, through="low")
    options = {"loss": lambda output, target: output, "collate_fn": collated, "batch_size": 4, "progress": False}
    result = fl.fit(model, items, epochs=1, cache=False, **options)
    assert result.history[0].train_loss > 0


MEMO = {}


class Placed(nn.Module):
    """A frozen layer with a buffer, which `fit` looks at before it splits the model."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.ones(D))

    def forward(self, batch):
        return batch * self.table


class Remembering(nn.Module):
    """Its head adds the mean of the first batch, which it keeps in a global."""

    def __init__(self, layer):
        super().__init__()
        self.low, self.layer, self.high = nn.Linear(D, D), layer, nn.Linear(D, D)

    def forward(self, batch):
        low = self.layer(self.low(batch))
        if "first" not in MEMO:
            MEMO["first"] = low.detach()
        return self.high(low + MEMO["first"].mean())


LAYERS = [Placed, lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(D, D))]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("is_cached", [True, False])
def test_a_look_at_frozen_layers_leaves_nothing_in_python(tmp_path, layer, is_cached):
    """Else the first batch of the look would be remembered in place of that of the training."""
    MEMO.clear()
    model = Remembering(layer())
    fl.freeze(model, modules=[model.low, model.layer])
    dataset = TensorDataset(torch.randn(24, D), torch.arange(24) % D)
    if is_cached:
        with pytest.raises(fl.NotCacheable, match=r"the global MEMO\['first'\]"):
            fit(model, dataset, epochs=1, batch_size=8, cache=tmp_path)
    else:
        fit(model, dataset, epochs=1, batch_size=8, cache=False)
        assert len(MEMO["first"]) == 8


class Looked(nn.Module):
    """An embedding that trains, and that shortens the rows which a batch reads; whole batches read others."""

    def __init__(self):
        super().__init__()
        self.low, self.table = nn.Linear(D, D), nn.Embedding(4, D, max_norm=0.1)

    def forward(self, batch):
        rows = torch.full((len(batch),), int(len(batch) == 8))
        return self.low(batch) + self.table(rows)


def test_a_look_writes_into_no_weight_that_trains():
    model = Looked()
    fl.freeze(model, modules=[model.low])
    fit(model, TensorDataset(torch.randn(24, D), torch.arange(24) % D), epochs=1, batch_size=8, cache=False)
    assert model.table.weight[1].norm() < 0.2
    assert model.table.weight[0].norm() > 0.5  # batches of eight have not read it
