"""Healing, then `fit`: real sick networks and healthy ones."""

import copy
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes import healing
from frostline.recipes.healing import _trial_batches, heal_first
from frostline.remedies import clip_by_norm, clip_by_percentile
from frostline.training import make_loss, make_optimizer
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


def heal_and_fit(model, train, *, freeze=None, optimizer="adamw", loss="cross_entropy", **options):
    """As `frostline fit --heal` does it."""
    if freeze is not None:
        fl.freeze(model, through=freeze)
    options = {**OPTIONS, "progress": False, **options}
    healed = heal_first(
        model, train, make_loss(loss), lambda: make_optimizer(optimizer, model.parameters(), options["lr"]),
        batch_size=options["batch_size"], seed=0, progress=options["progress"],
    )  # fmt: skip
    result = fit(model, train, optimizer=healed.optimizer, loss=loss, **options)
    return replace(result, healing=healed.healing, healing_steps=healed.steps)


def test_the_two_lines_of_the_guide():
    page = Path(__file__).parents[2] / "docs" / "training.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    torch.manual_seed(0)
    names = {}
    exec(compile(block, page.name, "exec"), names)
    assert names["healing"].accepted
    assert names["result"].history[-1].train_loss < 0.5 < math.log(4)


def test_the_older_call_warns_and_does_the_same(capsys):
    models, results = [deep(), deep()], []
    with pytest.warns(DeprecationWarning, match="Write the two lines instead") as caught:
        results.append(fit(models[0], blobs(), monitor="heal", progress=True, **OPTIONS))
    results.append(heal_and_fit(models[1], blobs()))
    assert same(*models)
    assert kept(results[0]) == kept(results[1])
    assert results[0].healing_steps == 80  # of 100 batches: a fifth judges
    assert 0 < results[0].timings.heal_s < results[0].timings.total_s
    assert [str(line).strip() for line in str(caught[0].message).splitlines()[1:]] == [
        "frostline.heal(model, batches, loss_fn, optimizer)", "frostline.fit(model, train, optimizer=optimizer)",
    ]  # fmt: skip
    assert caught[0].filename.endswith("helpers_fit.py")  # the line that calls
    assert "heal: FL101 issue" in capsys.readouterr().err


def test_a_deep_sigmoid_network_is_cured_and_trained_on(capsys):
    sick, cured = deep(), deep()
    fit(sick, blobs(), **OPTIONS)
    result = heal_and_fit(cured, blobs(), progress=True)
    assert accuracy(sick) < 0.7
    assert accuracy(cured) > 0.9
    assert result.healing.accepted
    assert result.healing.before.cause == "vanishing"
    assert result.healing_steps == 80
    assert len(result.history) == 4
    lines = capsys.readouterr().err
    assert "heal: FL101 issue: vanishing gradients in layer '0' (Linear, 2 to 32)" in lines
    assert f"heal: {kept(result)[0]} (vanishing): kept: held-out loss" in lines


def test_a_healthy_network_is_trained_as_without_healing_to_the_bit(tmp_path, capsys):
    models = [healthy(), healthy()]
    options = {**OPTIONS, "val": blobs(40, seed=3), "scheduler": "cosine", "clip": clip_by_percentile(50, warmup=2)}
    results = [
        train(model, blobs(), out=tmp_path / train.__name__, progress=True, **copy.deepcopy(options))
        for model, train in zip(models, (fit, heal_and_fit), strict=True)
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
    result = heal_and_fit(model, blobs(), out=tmp_path, cache=cache, **OPTIONS)
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
        heal_and_fit(model, blobs(), freeze="0", cache=cache, **OPTIONS)
        models.append(model)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_modes_and_generators_are_left_as_they_were():
    model = deep().eval()
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    result = heal_and_fit(model, blobs(), **OPTIONS)
    assert result.healing.accepted
    assert torch.equal(torch.rand(2), expected)
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inputs_are_scaled_inside_of_the_model_and_of_its_layers():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES)).eval()
    result = heal_and_fit(model, blobs(scale=300.0), optimizer="sgd", **{**OPTIONS, "lr": 0.1})
    assert result.healing.before.cause == "input_scale"
    assert accuracy(model, 300.0) > 0.9
    assert not any(module.training for module in model.modules())


def test_a_rate_that_was_raised_is_what_the_schedule_starts_from():
    model = healthy()
    result = heal_and_fit(model, blobs(), optimizer="sgd", scheduler="step", **{**OPTIONS, "lr": 1e-6})
    assert result.healing.before.cause == "learning_rate"
    first, *_, last = [epoch.lr for epoch in result.history]
    assert first > 1e-5
    assert last == pytest.approx(first / 10)


def halved(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


def test_a_resumed_run_finds_its_cure_again_to_the_bit(tmp_path):
    whole, first, second = deep(), deep(), deep()
    options = {**OPTIONS, "scheduler": halved, "epochs": 6}
    expected = heal_and_fit(whole, blobs(), **options)
    heal_and_fit(first, blobs(), out=tmp_path, **{**options, "epochs": 2})
    assert not same(first, whole)
    resumed = heal_and_fit(second, blobs(), resume=tmp_path, **options)
    assert same(second, whole)
    assert kept(resumed) == kept(expected)
    assert [epoch.train_loss for epoch in resumed.history] == [epoch.train_loss for epoch in expected.history]


def test_a_healthy_run_is_resumed_with_and_without_another_examination(tmp_path):
    models = [healthy(), healthy(), healthy()]
    heal_and_fit(models[0], blobs(), **OPTIONS)
    for model, train in zip(models[1:], (fit, heal_and_fit), strict=True):
        heal_and_fit(model, blobs(), out=tmp_path / train.__name__, **{**OPTIONS, "epochs": 2})
        train(model, blobs(), resume=tmp_path / train.__name__, **OPTIONS)
        assert same(model, models[0])


def test_a_cured_run_is_not_resumed_without_its_cure(tmp_path):
    heal_and_fit(deep(), blobs(), out=tmp_path, **OPTIONS)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(deep(), blobs(), resume=tmp_path, **{**OPTIONS, "epochs": 6})
    assert "heal the model again (frostline.heal, --heal)" in error.value.do


def test_a_clip_that_healing_has_added_is_not_left_out_of_a_resumed_run(tmp_path):
    def make(model, *, clips):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        if clips:
            optimizer.register_step_pre_hook(lambda one, *_: None)
        return optimizer

    model = healthy()
    fit(model, blobs(), optimizer=make(model, clips=True), out=tmp_path, epochs=1)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(model, blobs(), optimizer=make(model, clips=False), resume=tmp_path, epochs=2)
    assert "hooks before each step" in error.value.where
    assert "--heal" in error.value.do
    assert len(fit(model, blobs(), optimizer=make(model, clips=True), resume=tmp_path, epochs=2).history) == 2


def test_features_are_computed_anew_where_healing_has_changed_what_stands_before_them(tmp_path):
    def build():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    options = {"freeze": "0", "cache": tmp_path, "optimizer": "sgd", "lr": 0.1, "epochs": 1, "batch_size": 16}
    data = blobs(scale=300.0)
    assert fit(build(), data, **options).cache.computed == len(data)
    assert fit(build(), data, **options).cache.computed == 0
    result = heal_and_fit(build(), data, **options)
    assert result.healing.before.cause == "input_scale"
    assert result.cache.computed == len(data)


def test_trials_clip_as_the_training_does():
    clip = clip_by_norm(1e-9)  # nothing that is tried may take a larger step than this
    losses = []
    for given in (clip, None):
        model = healthy()
        healed = heal_first(
            model, blobs(), nn.functional.cross_entropy, partial(torch.optim.SGD, [*model.parameters()], 0.1), given,
            batch_size=16, seed=0, progress=False,
        )  # fmt: skip
        losses.append(healed.healing.loss_before)
    assert clip.num_calls == 0  # trials clip with copies
    assert losses[0] > 0.9
    assert losses[1] < 0.5


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
@pytest.mark.filterwarnings("ignore:fit.monitor='heal':DeprecationWarning")
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
        heal_and_fit(split.head, cached)


def test_mappings_with_labels_and_models_that_return_more_than_logits():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = deep()

        def forward(self, a, mask):
            return (self.layers(a) * mask, "more")

    items = [{"a": x, "mask": torch.ones(CLASSES), "labels": int(y)} for x, y in blobs()]
    model = Model()
    result = heal_and_fit(model, items, freeze="layers.0", cache=False, **OPTIONS)
    assert result.healing.accepted
    assert accuracy(model.layers) > 0.9


def test_an_error_in_the_search_changes_nothing():
    model, before = deep().eval(), deep()
    with pytest.raises(fl.DataError, match="label is outside of the range"):
        heal_and_fit(model, TensorDataset(torch.randn(64, 2), torch.full((64,), 9)))
    assert same(model, before)
    assert not any(module.training for module in model.modules())
