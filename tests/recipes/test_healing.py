"""`fit(monitor="heal")`: real sick networks and healthy ones."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes import healing
from frostline.recipes.healing import _trial_batches
from frostline.remedies import clip_by_norm, clip_by_percentile
from helpers_fit import fit

CLASSES = 3


def blobs(count=320, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return TensorDataset(scale * (centres[target] + 0.6 * torch.randn(count, 2, generator=generator)), target)


def deep(activation=nn.Sigmoid, depth=8, width=32):
    torch.manual_seed(4)
    layers = [nn.Linear(2, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def healthy():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, CLASSES))


def accuracy(model, scale=1.0):
    inputs, target = blobs(300, seed=7, scale=scale).tensors
    with torch.no_grad():
        return float((copy.deepcopy(model).eval()(inputs).argmax(1) == target).float().mean())


OPTIONS = {"epochs": 4, "batch_size": 16, "lr": 0.01}


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def kept(result):
    return [treatment.name for treatment in result.healing.treatments if treatment.kept]


def test_a_deep_sigmoid_network_is_cured_and_trained_on(capsys):
    sick, cured = deep(), deep()
    fit(sick, blobs(), **OPTIONS)
    result = fit(cured, blobs(), monitor="heal", progress=True, **OPTIONS)
    assert accuracy(sick) < 0.7
    assert accuracy(cured) > 0.9
    assert result.healing.accepted
    assert result.healing.before.cause == "vanishing"
    assert result.healing_steps == 80  # of 100 batches: a fifth judges
    assert 0 < result.timings.heal_s < result.timings.total_s
    assert len(result.history) == 4
    lines = capsys.readouterr().err
    assert "heal: FL101 issue: vanishing gradients in layer '0' (Linear, 2 to 32)" in lines
    assert f"heal: {kept(result)[0]} (vanishing): kept: held-out loss" in lines


def test_a_healthy_network_is_trained_as_with_true_to_the_bit(tmp_path, capsys):
    models = [healthy(), healthy()]
    options = {**OPTIONS, "val": blobs(40, seed=3), "scheduler": "cosine", "clip": clip_by_percentile(50, warmup=2)}
    results = [
        fit(model, blobs(), monitor=monitor, out=tmp_path / str(monitor), progress=True, **copy.deepcopy(options))
        for model, monitor in zip(models, (True, "heal"), strict=True)
    ]
    assert same(*models)
    assert results[0].findings == results[1].findings
    assert [epoch.train_loss for epoch in results[0].history] == [epoch.train_loss for epoch in results[1].history]
    assert (results[0].healing, results[1].healing.accepted, results[1].healing_steps) == (None, False, 0)
    assert results[1].healing.loss_after < 1.0  # it was trained on, and that was taken back
    assert "heal: nothing was changed" in capsys.readouterr().err


@pytest.mark.parametrize("cache", [True, False])
def test_a_cure_lands_in_the_callers_own_model_and_frozen_layers_are_left_alone(tmp_path, cache):
    model = nn.Sequential()
    model.low, model.high = nn.Sequential(nn.Linear(2, 32), nn.Tanh()), deep(width=32)
    model.high[0] = nn.Linear(32, 32)
    fl.freeze(model, through="low")
    low, frozen = list(model.low.modules()), copy.deepcopy(model.low.state_dict())
    result = fit(model, blobs(), monitor="heal", out=tmp_path, cache=cache, **OPTIONS)
    assert result.healing.accepted
    assert (result.cache is not None) == cache
    assert not any(isinstance(module, nn.Sigmoid) for module in model.modules()) or any(
        isinstance(module, nn.BatchNorm1d) for module in model.high.modules()
    )
    assert list(model.low.modules()) == low
    assert all(torch.equal(value, frozen[key]) for key, value in model.low.state_dict().items())
    assert accuracy(model) > 0.9
    again = fl.split(model, blobs().tensors[0][:8])
    again.verify(blobs().tensors[0][:16])


def test_cached_and_uncached_runs_are_cured_alike(tmp_path):
    models = []
    for cache in (tmp_path, False):
        model = deep()
        fit(model, blobs(), freeze="0", monitor="heal", cache=cache, **OPTIONS)
        models.append(model)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_modes_and_generators_are_left_as_they_were():
    model = deep().eval()
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    result = fit(model, blobs(), monitor="heal", **OPTIONS)
    assert result.healing.accepted
    assert torch.equal(torch.rand(2), expected)
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inputs_are_scaled_inside_of_the_model_and_of_its_layers():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES)).eval()
    result = fit(model, blobs(scale=300.0), monitor="heal", optimizer="sgd", **{**OPTIONS, "lr": 0.1})
    assert result.healing.before.cause == "input_scale"
    assert accuracy(model, 300.0) > 0.9
    assert not any(module.training for module in model.modules())


def test_a_rate_that_was_raised_is_what_the_schedule_starts_from():
    model = healthy()
    result = fit(model, blobs(), monitor="heal", optimizer="sgd", scheduler="step", **{**OPTIONS, "lr": 1e-6})
    assert result.healing.before.cause == "learning_rate"
    first, *_, last = [epoch.lr for epoch in result.history]
    assert first > 1e-5
    assert last == pytest.approx(first / 10)


def halved(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


def test_a_resumed_run_finds_its_cure_again_to_the_bit(tmp_path):
    whole, first, second = deep(), deep(), deep()
    options = {**OPTIONS, "monitor": "heal", "scheduler": halved, "epochs": 6}
    expected = fit(whole, blobs(), **options)
    fit(first, blobs(), out=tmp_path, **{**options, "epochs": 2})
    assert not same(first, whole)
    resumed = fit(second, blobs(), resume=tmp_path, **options)
    assert same(second, whole)
    assert kept(resumed) == kept(expected)
    assert [epoch.train_loss for epoch in resumed.history] == [epoch.train_loss for epoch in expected.history]


def test_a_healthy_run_is_resumed_without_another_examination(tmp_path):
    whole, parts = healthy(), healthy()
    fit(whole, blobs(), monitor="heal", **OPTIONS)
    for epochs in (2, 4):
        result = fit(parts, blobs(), monitor="heal", out=tmp_path, resume=tmp_path, **{**OPTIONS, "epochs": epochs})
    assert result.healing is None
    assert same(parts, whole)


def test_a_cure_that_cannot_be_repeated_is_refused_and_nothing_is_changed(tmp_path):
    model = deep()
    fit(model, blobs(), monitor="heal", out=tmp_path, **OPTIONS)
    before = copy.deepcopy(model)
    with pytest.raises(fl.DataError, match="cure of the run to be resumed cannot be repeated") as error:
        fit(model, blobs(), monitor="heal", resume=tmp_path, **{**OPTIONS, "epochs": 6})
    assert "other weights" in error.value.received
    assert same(model, before)
    model, before = deep(), deep()
    inputs, target = blobs().tensors
    noise = TensorDataset(inputs, target[torch.randperm(len(target), generator=torch.Generator().manual_seed(0))])
    with pytest.raises(fl.DataError, match="cannot be repeated") as error:
        fit(model, noise, monitor="heal", resume=tmp_path, **{**OPTIONS, "epochs": 6})
    assert "now" in error.value.received
    assert same(model, before)
    assert [type(module) for module in model] == [type(module) for module in before]


def test_a_cured_run_is_not_resumed_without_its_cure(tmp_path):
    fit(deep(), blobs(), monitor="heal", out=tmp_path, **OPTIONS)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(deep(), blobs(), resume=tmp_path, **{**OPTIONS, "epochs": 6})
    assert "monitor='heal'" in error.value.do


def test_trials_clip_as_the_training_does():
    options = {**OPTIONS, "monitor": "heal", "optimizer": "sgd"}
    clip = clip_by_norm(1e-9)  # nothing that is tried may take a larger step than this
    clipped, free = (fit(healthy(), blobs(), clip=given, **options) for given in (clip, None))
    assert clip.num_calls == 4 * 20  # the steps of the epochs: trials clip with copies
    assert clipped.healing.loss_before > 0.9
    assert free.healing.loss_before < 0.5


def test_no_sample_is_trained_on_and_judged_by():
    for count in (1000, 50, 7, 2):
        data = [(torch.tensor([float(at)]), at) for at in range(count)]
        found = _trial_batches(nn.Linear(1, 1), data, 8, seed=0)
        assert len(found) == 100
        rows = [set(target.tolist()) for _, target in found]
        trained, judged = (set().union(*part) for part in (rows[: -len(rows) // 5], rows[-len(rows) // 5 :]))
        assert not trained & judged
        assert trained
        assert judged


def test_large_samples_are_few(monkeypatch):
    data = [(torch.zeros(256), 0)] * 64
    assert len(_trial_batches(nn.Linear(1, 1), data, 2, seed=0)) == 100
    monkeypatch.setattr(healing, "_MOST_BYTES", 2**16)
    assert len(_trial_batches(nn.Linear(1, 1), data, 2, seed=0)) == 30
    monkeypatch.setattr(healing, "_MOST_BYTES", 1)
    assert len(_trial_batches(nn.Linear(1, 1), data, 2, seed=0)) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "bf16-mixed"}, "monitor is not usable"),
        ({"monitor": "health"}, "monitor is not usable"),
        ({"train": blobs(1)}, "There are too few samples to heal by"),
        ({"train": []}, "dataset is empty"),
    ],
)
def test_what_cannot_be_healed_by_is_refused(options, text):
    with pytest.raises(fl.DataError, match=text) as error:
        fit(deep(), **{"train": blobs(), "monitor": "heal", **OPTIONS, **options})
    assert all(error.value.parts().values())


def test_a_head_is_not_healed(tmp_path):
    model = deep()
    fl.freeze(model, through="2")
    split = fl.split(model, blobs().tensors[0][:4])
    cached = fl.FeatureCache(tmp_path).fill(split, blobs(), progress=False)
    with pytest.raises(fl.DataError, match="cached dataset is not enough to heal by"):
        fit(split.head, cached, monitor="heal", **OPTIONS)


def test_mappings_with_labels_and_models_that_return_more_than_logits():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = deep()

        def forward(self, a, mask):
            return (self.layers(a) * mask, "more")

    items = [{"a": x, "mask": torch.ones(CLASSES), "labels": int(y)} for x, y in blobs()]
    model = Model()
    result = fit(model, items, monitor="heal", freeze="layers.0", cache=False, **OPTIONS)
    assert result.healing.accepted
    assert accuracy(model.layers) > 0.9


def test_an_error_in_the_search_changes_nothing():
    model, before = deep().eval(), deep()
    with pytest.raises(fl.DataError, match="label is outside of the range"):
        fit(model, TensorDataset(torch.randn(64, 2), torch.full((64,), 9)), monitor="heal", **OPTIONS)
    assert same(model, before)
    assert not any(module.training for module in model.modules())
