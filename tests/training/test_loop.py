import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.training import DatasetBatches, Settings, make_loss, make_optimizer, make_scheduler, run_training
from frostline.training.fabric import make_fabric

N = 12


def data(count: int = N) -> TensorDataset:
    x = torch.linspace(-1, 1, count * 3).view(count, 3)
    return TensorDataset(x, x.sum(1, keepdim=True))


data_of = data


def run(model: nn.Module, *, val: bool = False, lr: float = 0.1, scheduler: str | None = None, **changed):
    if "metric" in changed:
        changed["metrics"] = {"metric": changed.pop("metric")}
    settings = {"loss": make_loss("mse"), "metrics": {}, "epochs": 3, "clip": None, "patience": None, "out": None,
                "resume": None, "described": {}, "progress": False, **changed}  # fmt: skip
    optimizer = make_optimizer("sgd", model.parameters(), lr)
    return run_training(
        make_fabric("32-true", 1, None), model, model, optimizer, make_scheduler(scheduler, optimizer, 3),
        DatasetBatches(data(), 5, shuffle=True), DatasetBatches(data(7), 4) if val else None, Settings(**settings),
    )  # fmt: skip


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_it_is_the_loop_that_everybody_writes():
    model, plain = linear(), linear()
    progress = run(model, scheduler="cosine")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    feed, losses = DatasetBatches(data(), 5, shuffle=True), []
    for _ in range(3):
        total = 0.0
        for inputs, target in feed:
            loss = nn.functional.mse_loss(plain(inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(target)
        schedule.step()
        losses.append(total / N)
    assert torch.equal(model.weight, plain.weight)
    assert [epoch.train_loss for epoch in progress.history] == pytest.approx(losses)
    assert [epoch.lr for epoch in progress.history] == pytest.approx([0.1, 0.075, 0.025])


def test_the_losses_of_a_validation_are_means_over_samples():
    model = linear()
    progress = run(model, val=True, epochs=1, metric=lambda output, target: float(len(target)))
    x, y = data(7).tensors
    expected = nn.functional.mse_loss(model(x), y).item()
    assert progress.history[0].val_loss == pytest.approx(expected)
    assert progress.history[0].val_metric == 7.0


def test_validation_runs_in_inference_mode_and_without_gradients():
    model = nn.Sequential(nn.Dropout(0.5), linear())
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append((module.training, output.requires_grad)))
    run(model, val=True, epochs=2)
    assert seen == ([(True, True)] * 3 + [(False, False)] * 2) * 2


def scored(*scores):
    """A metric that gives these scores, one an epoch."""
    epochs = iter(scores)
    return lambda output, target: next(epochs)


def test_the_best_weights_are_put_back_and_a_tie_keeps_the_earlier():
    model, after_first = linear(), linear()
    run(after_first, epochs=2)
    progress = run(model, val=True, epochs=4, metric=scored(0.1, 0.7, 0.7, 0.2))
    assert (progress.best_epoch, progress.best_score) == (2, pytest.approx(0.7))
    assert torch.equal(model.weight, after_first.weight)


def test_the_best_weights_are_put_back_where_forward_turns_them_off_in_evaluation():
    class Toggling(nn.Linear):
        def forward(self, batch):
            self.bias.requires_grad_(self.training)
            return super().forward(batch)

    model, after_first = linear(), linear()
    model.__class__ = Toggling
    run(after_first, epochs=2)
    run(model, val=True, epochs=4, metric=scored(0.1, 0.7, 0.7, 0.2))
    assert torch.equal(model.bias, after_first.bias)


def test_patience_counts_epochs_without_a_better_score():
    progress = run(linear(), val=True, epochs=9, patience=2, metric=scored(0.1, 0.3, 0.2, 0.2, 0.9))
    assert (len(progress.history), progress.stopped_early, progress.best_epoch) == (4, True, 2)


def test_a_score_that_is_not_finite_is_never_the_best():
    progress = run(linear(), val=True, epochs=3, metric=scored(0.1, math.nan, math.inf))
    assert progress.best_epoch == 1


def test_a_first_score_that_is_not_finite_is_beaten_by_any_finite_one():
    progress = run(linear(), val=True, epochs=3, metric=scored(math.nan, 0.1, 0.2))
    assert progress.best_epoch == 3


def test_a_run_whose_validation_was_never_finite_has_no_best_epoch(tmp_path):
    options = {"val": True, "metric": scored(math.nan, -math.inf, 0.5), "out": tmp_path}
    with pytest.raises(fl.DataError, match="No epoch can be chosen as the best") as error:
        run(linear(), epochs=2, **options)
    assert error.value.received == "val_metric -inf, val_metric nan in 2 of 2 epochs"
    assert str(tmp_path) in error.value.do
    with pytest.raises(fl.DataError, match="No epoch can be chosen as the best"):
        run(linear(), epochs=2, **options, resume=tmp_path)
    progress = run(linear(), epochs=3, **options, resume=tmp_path)  # its figures are kept in the checkpoint
    assert [str(epoch.val_metric) for epoch in progress.history] == ["nan", "-inf", "0.5"]
    assert progress.best_epoch == 3


def test_a_metric_of_outputs_that_are_not_finite_chooses_nothing():
    """The largest of outputs that are all NaN is the first one, so that accuracy is a number all the same."""
    of_validation = iter([0.1, 0.1, math.nan, math.nan, 0.3, 0.3])

    def loss(output, target):
        return (output - target).square().mean() if torch.is_grad_enabled() else torch.tensor(next(of_validation))

    progress = run(linear(), val=True, epochs=3, metric=scored(0.1, 0.9, 0.2), loss=loss)
    assert (progress.best_epoch, progress.best_score) == (3, 0.2)


def test_patience_counts_epochs_whose_validation_is_not_finite():
    with pytest.raises(fl.DataError, match="No epoch can be chosen") as error:
        run(linear(), val=True, epochs=9, patience=2, metric=scored(*[math.nan] * 9))
    assert error.value.received.endswith("in 2 of 2 epochs")


def test_what_is_not_finite_is_said_at_its_epoch(capsys):
    run(linear(), val=True, epochs=2, progress=True, metrics={"a": scored(0.1, 0.2), "b": scored(0.3, math.nan)})
    told = capsys.readouterr().err
    assert "val_b is not finite.\n" in told
    run(linear(), val=True, epochs=2, progress=True, metric=scored(0.1, math.inf))
    assert "val_metric is not finite: this epoch is not chosen as the best.\n" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["inputs", "targets"])
def test_validation_samples_that_are_not_finite_are_named(what, monkeypatch):
    bad = data(7)
    bad.tensors[what == "targets"][5, 0] = math.nan
    monkeypatch.setitem(globals(), "data", lambda count=N: data_of(count) if count == N else bad)
    with pytest.raises(fl.DataError, match=f"{what} of the validation data are not") as error:
        run(linear(), val=True)
    assert error.value.where == "fit(val=...), sample 5"


def test_without_validation_the_last_weights_stay():
    progress = run(linear())
    assert (progress.best_epoch, progress.best) == (3, {})


def test_clipping_sees_the_gradients_before_every_step():
    model, seen = linear(), []
    run(model, clip=lambda parameters: seen.append([p.grad is not None for p in parameters]))
    assert seen == [[True, True]] * 9


def test_a_loss_that_is_not_finite_stops_at_its_step():
    model = linear()
    calls = iter([1.0, 1.0, 1.0, 1.0, math.nan])
    with pytest.raises(fl.DataError, match="not a single finite number") as error:
        run(model, loss=lambda output, target: output.sum() * next(calls))
    assert error.value.where == "epoch 2, step 2"
    assert model.weight.isfinite().all()


def test_a_run_that_is_resumed_ends_as_if_it_had_not_stopped(tmp_path):
    whole, first, second = linear(), linear(), linear()
    expected = run(whole, scheduler="step", epochs=3)
    run(first, scheduler="step", epochs=2, out=tmp_path)
    progress = run(second, scheduler="step", epochs=3, resume=tmp_path)
    assert torch.equal(second.weight, whole.weight)
    assert [epoch.train_loss for epoch in progress.history] == [epoch.train_loss for epoch in expected.history]


def test_one_line_per_epoch_goes_to_standard_error(capsys):
    run(linear(), val=True, progress=True)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert (captured.out, len(lines)) == ("", 3)
    assert lines[0].startswith("epoch 1/3  train_loss ")
    assert "val_loss" in lines[0]


def test_a_single_sample_at_the_end_and_a_batch_norm_are_told_apart_from_other_errors():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = make_optimizer("sgd", model.parameters(), 0.1)
    settings = Settings(make_loss("mse"), {}, 1, None, None, None, None, {}, False)
    with pytest.raises(fl.DataError, match="A batch of one sample") as error:
        run_training(make_fabric("32-true", 1, None), model, model, optimizer, None, DatasetBatches(data(), 11), None,
                     settings)  # fmt: skip
    assert "batch_size" in error.value.do


def test_an_optimizer_that_asks_for_a_closure_gets_one():
    model, plain = linear(), linear()
    x, y = data().tensors
    optimizers = [torch.optim.LBFGS(one.parameters(), max_iter=4) for one in (model, plain)]
    settings = Settings(make_loss("mse"), {}, 2, None, None, None, None, {}, False)
    run_training(make_fabric("32-true", 1, None), model, model, optimizers[0], None, DatasetBatches(data(), N), None,
                 settings)  # fmt: skip

    def closure():
        optimizers[1].zero_grad()
        loss = nn.functional.mse_loss(plain(x), y)
        loss.backward()
        return loss

    for _ in range(2):
        optimizers[1].step(closure)
    assert torch.equal(model.weight, plain.weight)


def test_batches_that_count_nothing_are_left_out_and_a_run_without_any_label_is_refused():
    model, before = linear(), linear()
    counts = iter([0, 5, 2])
    run(model, epochs=1, counted=lambda target: next(counts))
    assert not torch.equal(model.weight, before.weight)
    with pytest.raises(fl.DataError, match="No sample of the training data has a label"):
        run(linear(), counted=lambda target: 0)


def test_float16_with_adam_is_told_its_own_remedy_and_it_works():
    def wide():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))

    options = {"cache": False, "epochs": 2, "batch_size": 8, "optimizer": "adam", "progress": False}
    inputs = data().tensors[0].clone()
    inputs[:, 0] = 0  # the gradients of its weights are 0: 0 / (0 + eps) is NaN where eps is 0
    train = TensorDataset(inputs, (data().tensors[1][:, 0] > 0).long())
    with pytest.raises(fl.DataError, match="not a single finite number") as error:
        fl.fit(wide(), train, precision="16-true", **options)
    assert "bf16-true" in error.value.do
    assert "lower lr" not in error.value.do
    assert fl.fit(wide(), train, precision="bf16-true", **options).history


def test_a_step_that_the_clip_leaves_out_is_not_taken():
    model, before, calls = linear(), linear(), []

    def clip(parameters):
        calls.append(len(parameters))
        return SimpleNamespace(skipped=len(calls) > 3)

    run(model, epochs=2, clip=clip)
    one_epoch = linear()
    run(one_epoch, epochs=1)
    assert torch.equal(model.weight, one_epoch.weight)
    assert not torch.equal(model.weight, before.weight)
    assert calls == [2] * 6
    assert all(parameter.grad is None for parameter in model.parameters())


def watching(heard):
    @contextmanager
    def watch(module, optimizer, steps):
        heard.append(("begins", steps))
        yield SimpleNamespace(step=lambda loss: heard.append(("step", float(loss.detach()))))
        heard.append(("ends", len(optimizer.param_groups)))

    return watch


def test_a_watch_hears_every_loss_and_where_a_resumed_run_goes_on(tmp_path):
    heard = []
    progress = run(linear(), epochs=2, out=tmp_path, watch=watching(heard))
    assert [kind for kind, _ in heard] == ["begins", *["step"] * 6, "ends"]
    assert heard[0] == ("begins", 0)
    sizes = (5, 5, 2)
    first = sum(loss * size for (_, loss), size in zip(heard[1:4], sizes, strict=True)) / N
    assert progress.history[0].train_loss == pytest.approx(first)
    heard.clear()
    run(linear(), epochs=3, resume=tmp_path, watch=watching(heard))
    assert heard[0] == ("begins", 6)
    assert len(heard) == 5
    heard.clear()
    run(linear(), epochs=2, resume=tmp_path, watch=watching(heard))
    assert heard == []


def test_of_several_metrics_all_are_told_and_the_first_chooses():
    metrics = {"a": scored(0.1, 0.5, 0.3), "b": scored(0.9, 0.2, 0.8)}
    progress = run(linear(), val=True, metrics=metrics)
    assert progress.best_epoch == 2
    assert [epoch.val_metric for epoch in progress.history] == [0.1, 0.5, 0.3]
    assert progress.history[1].val_metrics == {"a": 0.5, "b": 0.2}
    single = run(linear(), val=True, metric=scored(0.1, 0.5, 0.3))
    assert [epoch.val_metrics for epoch in single.history] == [{"metric": score} for score in (0.1, 0.5, 0.3)]
    assert [epoch.epoch for epoch in single.history] == [1, 2, 3]


def test_every_score_is_printed_and_logged_by_its_name(tmp_path, capsys):
    fabric = make_fabric("32-true", 1, tmp_path)
    settings = Settings(
        make_loss("mse"), {"a": scored(0.5), "b": scored(0.25)}, 1, None, None, tmp_path, None, {}, True
    )
    model = linear()
    optimizer = make_optimizer("sgd", model.parameters(), 0.1)
    feeds = DatasetBatches(data(), 5), DatasetBatches(data(7), 4)
    run_training(fabric, model, model, optimizer, None, *feeds, settings)
    assert "epoch 1/1  train_loss" in (told := capsys.readouterr().err)
    assert "val_a 0.5000  val_b 0.2500" in told
    header, row = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    logged = dict(zip(header.split(","), row.split(","), strict=True))
    assert (logged["epoch"], logged["val_a"], logged["val_b"]) == ("1", "0.5", "0.25")


def test_the_confusion_matrix_is_that_of_the_best_epoch(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2), data(7).tensors[0]
    labelled = TensorDataset(x, (x.sum(1) > 0).long())
    counts = []

    def metric(output, target):
        counts.append(int((output.argmax(1) == 1).sum()))
        return [0.1, 0.9, 0.2][len(counts) - 1]

    settings = Settings(make_loss("cross_entropy"), {"own": metric}, 3, None, None, tmp_path, None, {}, False,
                        confused=True, classes=["low", "high"])  # fmt: skip
    optimizer = make_optimizer("sgd", model.parameters(), 5.0)
    feeds = DatasetBatches(labelled, 4), DatasetBatches(labelled, 4)
    run_training(make_fabric("32-true", 1, None), model, model, optimizer, None, *feeds, settings)
    header, *rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert header == "true \\ predicted,low,high"
    assert [row.split(",")[0] for row in rows] == ["low", "high"]
    assert sum(int(row.split(",")[2]) for row in rows) == counts[1]
    assert sum(int(cell) for row in rows for cell in row.split(",")[1:]) == 7


def test_a_new_run_that_fails_before_a_checkpoint_leaves_the_old_one(tmp_path):
    run(linear(), epochs=2, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    calls = iter([1.0, math.nan])
    with pytest.raises(fl.DataError, match="not a single finite number"):
        run(linear(), out=tmp_path, loss=lambda output, target: output.sum() * next(calls))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert "checkpoint.json" in before
    assert not list(tmp_path.glob("replaced*"))


def test_without_a_metric_the_lowest_loss_of_validation_is_best():
    progress = run(linear(), val=True, lr=0.05)
    losses = [epoch.val_loss for epoch in progress.history]
    assert progress.best_epoch == losses.index(min(losses)) + 1
    assert progress.best_score == -min(losses)
    assert [epoch.val_metric for epoch in progress.history] == [None] * 3


def test_of_the_validation_too_batches_that_count_nothing_are_left_out():
    counts = iter([5, 5, 2, 0, 3])
    progress = run(model := linear(), val=True, epochs=1, counted=lambda target: next(counts))
    x, y = (part[4:] for part in data(7).tensors)
    assert progress.history[0].val_loss == pytest.approx(nn.functional.mse_loss(model(x), y).item())
    counts = iter([5, 5, 2, 0, 0])
    with pytest.raises(fl.DataError, match="No sample of the validation data has a label") as error:
        run(linear(), val=True, epochs=1, counted=lambda target: next(counts))
    assert error.value.received == "2 batches of ignored labels only"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_is_written_to_standard_error_unless_asked(capsys, monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    run(linear(), val=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("at", "text"), [(0, "weights of the model are."), (1, "not a single finite number.")])
def test_weights_are_blamed_before_the_first_step_alone(at, text):
    model = linear()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    calls = []

    def loss(output, target):
        if len(calls) == at:
            model.bias.data.fill_(math.nan)
        calls.append(1)
        return (output + model.bias.detach() - target).square().mean()

    settings = Settings(loss, {}, 1, None, None, None, None, {}, False)
    with pytest.raises(fl.DataError, match="The loss is") as error:
        run_training(make_fabric("32-true", 1, None), model, model, optimizer, None, DatasetBatches(data(), N), None,
                     settings)  # fmt: skip
    assert error.value.what.endswith(text)
    assert error.value.where == "epoch 1, step 1"


class Refusing(nn.Linear):
    def forward(self, x):
        raise ValueError(f"{x.shape[0]} is no number of mine")


def test_other_errors_of_the_model_stay_what_they_are():
    with pytest.raises(ValueError, match="5 is no number of mine"):
        run(Refusing(3, 1))


@dataclass(frozen=True)
class Frozen:
    logits: torch.Tensor


class GivesFrozen(nn.Linear):
    def forward(self, inputs):
        return Frozen(super().forward(inputs))


def test_a_frozen_dataclass_as_output_is_refused():
    with pytest.raises(fl.DataError, match="The model returns a frozen dataclass, whose tensors cannot be converted"):
        run(GivesFrozen(3, 1))


class Boxes(torch.utils.data.Dataset):
    """Images with another number of boxes for each, as detectors are trained on."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, generator=generator), torch.rand(1 + index % 4, 2, generator=generator)


def listed(items):
    return torch.stack([image for image, _ in items]), [boxes for _, boxes in items]


def nearest(output, target):
    return torch.stack([(own - boxes).square().sum(1).min() for own, boxes in zip(output, target, strict=True)]).mean()


def test_batches_whose_targets_are_lists_count_by_their_samples():
    def trained(batch_size, accumulation):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        result = fl.fit(
            model, Boxes(), Boxes(), loss=nearest, collate_fn=listed, batch_size=batch_size, accumulation=accumulation,
            epochs=2, optimizer="sgd", lr=0.1, cache=False, progress=False,
        )  # fmt: skip
        return model, result.history

    whole, wholes = trained(10, 1)
    parts, few = trained(3, 4)
    torch.testing.assert_close(parts.weight, whole.weight)
    for one, other in zip(few, wholes, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss)
        assert one.val_loss == pytest.approx(other.val_loss)
