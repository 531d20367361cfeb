import copy
import dataclasses
import importlib
import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.remedies import clip_by_norm, clip_by_percentile
from helpers_fit import D, N, data, fit, mlp
from helpers_processes import run_script

fit_module = importlib.import_module("frostline.recipes.fit")


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "scheduler": "cosine", "clip": clip_by_norm(0.5)},
                                     {"val": data(20), "patience": 2}], ids=["plain", "sgd", "val"])  # fmt: skip
def test_cached_and_uncached_end_with_the_same_weights(tmp_path, options):
    cached, uncached = mlp(), mlp()
    a = fit(cached, freeze="2", epochs=4, batch_size=16, out=tmp_path, **options)
    b = fit(uncached, freeze="2", epochs=4, batch_size=16, cache=False, **options)
    for key, value in uncached.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)
    assert [epoch.train_loss for epoch in a.history] == pytest.approx([epoch.train_loss for epoch in b.history])
    assert (a.cache.samples, a.cache.computed, b.cache) == (N, N, None)
    assert a.timings.uncached_s > 0
    assert b.timings.uncached_s is None


def test_the_estimate_of_the_uncached_run_counts_every_batch_of_every_epoch(tmp_path, monkeypatch):
    real = fit_module.prepare

    def prepare(*args, **options):
        return dataclasses.replace(real(*args, **options), frozen_epoch_s=200.0)

    monkeypatch.setattr(fit_module, "prepare", prepare)
    timings = fit(mlp(), freeze="2", epochs=3, batch_size=N // 2, out=tmp_path).timings
    assert timings.uncached_s == pytest.approx(timings.epochs_s + 100.0 * 2 * 3)


def test_the_model_is_left_as_it_was_but_trained(tmp_path):
    model = mlp()
    fl.freeze(model, through="2")
    model[4].eval()
    modes = [module.training for module in model.modules()]
    frozen = copy.deepcopy(model[0].state_dict())
    before = model[7].weight.detach().clone()
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    fit(model, out=tmp_path, epochs=1)
    assert torch.equal(torch.rand(2), expected)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, frozen[key]) for key, value in model[0].state_dict().items())
    assert not torch.equal(model[7].weight, before)
    assert type(model) is nn.Sequential
    assert not any(module._forward_hooks for module in model.modules())


def test_validation_puts_the_best_weights_back(tmp_path):
    model = mlp()
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4])
    kept = []

    def metric(output, target):
        kept.append(copy.deepcopy(model[7].weight.detach()))
        return next(scores)

    result = fit(model, val=data(20), metric=metric, epochs=5, patience=2, freeze="2", out=tmp_path, batch_size=64)
    assert (result.best_epoch, result.stopped_early, len(result.history)) == (2, True, 4)
    assert torch.equal(model[7].weight, kept[1])


def test_other_losses(tmp_path):
    inputs = data().tensors[0]
    regression = TensorDataset(inputs, inputs.sum(1))
    model = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 1))
    first, *_, last = fit(model, regression, loss="mse", freeze="0", epochs=15, lr=0.02, out=tmp_path).history
    assert last.train_loss < first.train_loss
    binary = TensorDataset(inputs, (inputs.sum(1) > 0).float())
    model = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 1))
    first, *_, last = fit(model, binary, loss="bce", epochs=15, lr=0.02).history
    assert last.train_loss < first.train_loss


def test_mappings_with_labels_and_models_that_return_logits(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(D, 8), nn.Linear(8, 2)

        def forward(self, a, mask):
            return (self.high(self.low(a)) * mask, "more")

    items = [{"a": x, "mask": torch.ones(2), "labels": int(y)} for x, y in data()]
    result = fit(Model(), items, freeze="low", epochs=2, out=tmp_path)
    assert result.cache.computed == N


RUN = """
import os, signal, sys, torch
torch.set_num_threads(1)  # as in the tests: sums round by the number of threads
sys.path[:0] = [{tests!r}, {helpers!r}]
import torch
torch.set_num_threads(1)  # as here: sums are rounded by thread
import test_fit as t
from frostline.training import stepper as loop
real, calls = loop.check_scalar, 0
def counting(*args, **options):
    global calls
    calls += 1
    if calls == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **options)
loop.check_scalar = counting
t.resumable({out!r})
"""


def resumable(out):
    model = mlp()
    result = fit(model, val=data(20), freeze="2", epochs=6, batch_size=16, scheduler="step", out=out, resume=out)
    return model, result


def test_a_run_killed_twice_goes_on_to_the_bit(tmp_path):
    expected, history = resumable(tmp_path / "whole")
    out = tmp_path / "killed"
    for at in (5, 4):  # in the middle of the second epoch, then of the next one
        script = RUN.format(
            tests=str(Path(__file__).parent), helpers=str(Path(__file__).parents[1]), at=at, out=str(out)
        )
        done = run_script(script, tmp_path)
        assert done.returncode == -9, done.stderr
    epochs = len(json.loads((out / "checkpoint.json").read_text())["history"])
    assert epochs == 2
    model, resumed = resumable(out)
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert [e.train_loss for e in resumed.history] == [e.train_loss for e in history.history]
    again, _ = resumable(out)  # a finished run returns at once, with the same weights
    assert torch.equal(again[7].weight, model[7].weight)


def test_logs_are_csv(tmp_path):
    fit(mlp(), freeze="2", epochs=2, out=tmp_path, monitor=False)
    lines = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "train_loss" in lines[0]


def test_a_folder_with_a_run_is_not_replaced_unasked(tmp_path):
    fit(mlp(), freeze="2", epochs=2, out=tmp_path)
    checkpoint = (tmp_path / "checkpoint.json").read_bytes()
    with pytest.raises(fl.DataError, match="holds a run already, which is not replaced") as error:
        fit(mlp(), freeze="2", epochs=1, out=tmp_path)
    assert "overwrite=True" in error.value.do
    assert (tmp_path / "checkpoint.json").read_bytes() == checkpoint
    with pytest.raises(fl.DataError, match="either resumed or overwritten"):
        fit(mlp(), freeze="2", epochs=3, out=tmp_path, resume=tmp_path, overwrite=True)
    assert len(fit(mlp(), freeze="2", epochs=3, out=tmp_path, resume=tmp_path).history) == 3
    result = fit(mlp(), freeze="2", epochs=1, out=tmp_path, overwrite=True)
    assert (len(result.history), result.cache.computed) == (1, 0)  # the cache in the folder is used


def test_epochs_are_counted_from_1_in_all_that_is_written(tmp_path, capsys):
    result = fit(mlp(), freeze="2", epochs=2, out=tmp_path, val=data(20), monitor=False, progress=True)
    assert [epoch.epoch for epoch in result.history] == [1, 2]
    told = capsys.readouterr().err
    assert "epoch 1/2" in told
    assert "epoch 2/2" in told
    saved = json.loads((tmp_path / "checkpoint.json").read_text())
    assert [epoch["epoch"] for epoch in saved["history"]] == [1, 2]
    assert saved["best_epoch"] == result.best_epoch
    lines = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    at = lines[0].split(",").index("epoch")
    assert [line.split(",")[at] for line in lines[1:]] == ["1", "2"]


def test_classification_leaves_a_confusion_matrix(tmp_path):
    fit(mlp(), epochs=1, out=tmp_path / "a", val=data(20))
    rows = [line.split(",") for line in (tmp_path / "a" / "confusion.csv").read_text().splitlines()]
    assert rows[0][1:] == [row[0] for row in rows[1:]] == ["0", "1"]
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 20
    fit(mlp(), epochs=1, out=tmp_path / "b")
    assert not (tmp_path / "b" / "confusion.csv").exists()


@pytest.mark.parametrize("cache", [True, False])
def test_worker_processes_change_no_bit(tmp_path, cache):
    options = {"freeze": "2", "epochs": 2, "batch_size": 16, "val": data(20)}
    alone, helped = mlp(), mlp()
    fit(alone, cache=cache and tmp_path / "a", **options)
    fit(helped, cache=cache and tmp_path / "b", num_workers=2, **options)
    assert all(map(torch.equal, alone.state_dict().values(), helped.state_dict().values()))


def test_a_run_is_not_resumed_under_another_metric(tmp_path):
    fit(mlp(), epochs=1, out=tmp_path, val=data(20), metric=["accuracy", "f1"])
    with pytest.raises(fl.DataError, match="made with other settings"):
        fit(mlp(), epochs=2, resume=tmp_path, val=data(20), metric="f1")


def test_no_pickle_in_a_checkpoint(tmp_path):
    fit(mlp(), freeze="2", epochs=1, out=tmp_path, val=data(20))
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".csv"}  # a lock of the cache is an empty file


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"batch_size": 7}, {"loss": nn.CrossEntropyLoss()}])
def test_another_run_is_not_resumed(tmp_path, changed):
    fit(mlp(), epochs=1, out=tmp_path)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(mlp(), epochs=1, resume=tmp_path, **changed)
    assert next(iter(changed)) in error.value.where


def test_a_state_that_is_no_json_is_refused(tmp_path):
    def odd(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        optimizer.param_groups[0]["note"] = object()
        return optimizer

    with pytest.raises(fl.DataError, match="optimizer or scheduler cannot be saved as JSON"):
        fit(mlp(), epochs=1, out=tmp_path, optimizer=odd)


def test_a_lost_state_is_said(tmp_path):
    fit(mlp(), epochs=1, out=tmp_path)
    next(tmp_path.glob("state-*.safetensors")).unlink()
    with pytest.raises(fl.CacheError, match="state of a checkpoint cannot be read"):
        fit(mlp(), epochs=2, resume=tmp_path)


WRONG = {
    "epochs": ({"epochs": 0}, "epochs is not a "),
    "batch_size": ({"batch_size": 0}, "batch_size is not a "),
    "lr": ({"lr": float("nan")}, "lr is not a "),
    "num_workers": ({"num_workers": -1}, "num_workers is not a "),
    "overwrite": ({"overwrite": "yes"}, "overwrite is neither"),
    "patience": ({"patience": 3}, "patience is not usable"),
    "precision": ({"precision": "8"}, "precision is not usable"),
    "devices": ({"devices": 0}, "devices is not"),
    "optimizer": ({"optimizer": "adamm"}, "no optimizer named 'adamm'"),
    "scheduler": ({"scheduler": "cosin"}, "no scheduler named 'cosin'"),
    "loss": ({"loss": "cross"}, "no loss named 'cross'"),
    "empty": ({"train": []}, "dataset is empty"),
    "iterable": ({"train": iter([1])}, "not a map-style dataset"),
    "not a pair": ({"train": [5] * 4}, "must be \\(inputs, target\\)"),
    "no target": ({"train": [torch.ones(D)] * 4}, "The items hold inputs only"),
    "one sample": ({"train": data(1), "freeze": "2"}, "example batch is too small"),
    "label": ({"train": TensorDataset(torch.ones(4, D), torch.tensor([0, 1, 2, 0]))}, "label is outside of the range"),
    "not finite": (
        {"train": TensorDataset(torch.full((4, D), torch.inf), torch.zeros(4).long())},
        "NaN or infinite because inputs",
    ),
    "layer": ({"freeze": "9"}, "no layer named '9'"),
    "loss shape": ({"loss": lambda output, target: output}, "not a single finite number"),
    "loss that nothing trains": ({"loss": lambda output, target: torch.ones(())}, "does not depend on any trainable"),
    "loss that is none": ({"loss": lambda output, target: None}, "not a single finite number"),
    "no optimizer": ({"optimizer": lambda parameters: None}, "made no optimizer"),
    "another optimizer": (
        {"optimizer": lambda _: torch.optim.SGD(mlp().parameters(), lr=0.1), "monitor": False},
        "does not hold the model's parameters",
    ),
    "target shape": ({"loss": "mse"}, "Target and output have different shapes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_refused(tmp_path, name):
    options, text = WRONG[name]
    with pytest.raises(fl.FrostlineError, match=text) as error:
        fit(mlp(), **{"cache": tmp_path, "epochs": 1, **options})
    assert all(error.value.parts().values())
    assert not list(tmp_path.rglob("*.part"))


def test_sparse_parameters_and_gradients_are_refused():
    model = nn.Sequential(nn.EmbeddingBag(5, 4, sparse=True), nn.Linear(4, 2))
    words = [(torch.randint(0, 5, (3,)), at % 2) for at in range(8)]
    with pytest.raises(fl.DataError, match="does not take sparse gradients"):
        fit(model, words, epochs=1)
    fit(model, words, epochs=1, optimizer="sgd")
    model[1].weight = nn.Parameter(torch.ones(2, 4).to_sparse())
    with pytest.raises(fl.DataError, match="parameter is a sparse tensor"):
        fit(model, words, epochs=1)


def test_outputs_that_no_loss_can_take_are_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(D, 2)

        def forward(self, x):
            return {"something": self.layer(x), "other": self.layer(x)}

    with pytest.raises(fl.DataError, match="which part of the model's output"):
        fit(Odd(), epochs=1)


def test_a_step_with_gradients_that_are_not_finite_is_left_out():
    model, clip = mlp(), clip_by_norm(1.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def poison(gradient):
        return gradient * torch.nan

    model[0].weight.register_hook(poison)
    fit(model, epochs=1, clip=clip, cache=False)
    assert clip.num_skipped == clip.num_calls > 0
    assert all(torch.equal(new, old) for new, old in zip(model.parameters(), before, strict=True))


def test_a_resumed_run_remembers_the_norms_it_clips_by(tmp_path):
    whole, parts = mlp(), mlp()
    fit(whole, epochs=4, clip=clip_by_percentile(50, warmup=2))
    fit(parts, epochs=2, clip=clip_by_percentile(50, warmup=2), out=tmp_path)
    fit(parts, epochs=4, clip=clip_by_percentile(50, warmup=2), resume=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_half_precision_trains_and_verifies(tmp_path):
    result = fit(mlp(), freeze="2", epochs=2, precision="bf16-mixed", out=tmp_path)
    assert result.history[-1].train_loss < 2


@pytest.mark.parametrize("cache", [True, False])
def test_the_monitor_changes_no_bit_and_tells_what_it_finds(tmp_path, cache, capsys):
    watched, plain = mlp(), mlp()
    options = {"freeze": "2", "epochs": 8, "batch_size": 16, "val": data(20)}
    found = fit(watched, out=tmp_path / "a", cache=cache and tmp_path / "cache", progress=True, lr=1e-9, **options)
    none = fit(plain, out=tmp_path / "b", cache=cache and tmp_path / "cache", monitor=False, lr=1e-9, **options)
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert [epoch.train_loss for epoch in found.history] == [epoch.train_loss for epoch in none.history]
    assert none.findings == ()
    assert "FL402" in {finding.code for finding in found.findings}
    told = capsys.readouterr().err
    assert all(finding.why in told and finding.advice in told for finding in found.findings)
    records = [json.loads(line) for line in (tmp_path / "a" / "health.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 10, 20]
    assert {"layer", "gradient_norm", "update_ratio"} <= set(records[0]["layers"][-1])  # the first may be frozen
    assert not (tmp_path / "b" / "health.jsonl").exists()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


def test_other_values_of_monitor_are_refused():
    with pytest.raises(fl.DataError, match="monitor is not usable") as error:
        fit(mlp(), monitor="yes")
    assert "monitor=True" in error.value.do
    assert "monitor=False" in error.value.do


def test_a_scheduler_that_is_not_known_is_refused_before_anything_is_filled(tmp_path):
    with pytest.raises(fl.DataError, match="no scheduler named 'cosin'") as error:
        fit(mlp(), data(20), freeze="2", scheduler="cosin", cache=tmp_path / "cache")
    assert error.value.do == "use 'cosine', 'linear', 'step', or a callable(optimizer) -> scheduler."
    assert not (tmp_path / "cache").exists()


def test_the_import_of_fabric_is_no_time_of_a_run(monkeypatch):
    module, clock, shift = importlib.import_module("frostline.recipes.fit"), time.perf_counter, [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock() + shift[0])
    monkeypatch.setattr(module, "import_fabric", lambda: shift.__setitem__(0, 1e6))
    assert fit(mlp(), epochs=1, cache=False).timings.total_s < 1e5


def test_samples_of_each_class_are_told(capsys):
    fit(mlp(), data(20), data(6), epochs=1, cache=False, progress=True)
    assert "data: 20 training samples, 6 validation samples; 2 classes: 0 " in capsys.readouterr().err
