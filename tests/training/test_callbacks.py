import pytest
import torch

import frostline as fl
from frostline.training.callbacks import HOOKS
from helpers_fit import data, fit, mlp


class Recorder:
    """Every hook, in the order of calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda run: self.calls.append((name, run.epoch, run.step, len(run.history)))


@pytest.mark.parametrize("cache", [True, False])
def test_hooks_are_called_in_order(tmp_path, cache):
    recorder = Recorder()
    fit(mlp(), val=data(20), freeze="2", epochs=2, batch_size=16, accumulation=2, callbacks=[recorder],
        cache=tmp_path if cache else False)  # fmt: skip
    epochs = [[("on_train_epoch_start", at, 2 * at - 2, at - 1), ("on_train_batch_end", at, 2 * at - 1, at - 1),
               ("on_train_batch_end", at, 2 * at, at - 1), ("on_train_epoch_end", at, 2 * at, at)]
              for at in (1, 2)]  # fmt: skip
    assert recorder.calls == [("on_train_start", 0, 0, 0), *epochs[0], *epochs[1], ("on_train_end", 2, 4, 2)]


def test_a_run_in_phases_starts_and_ends_once(tmp_path):
    recorder = Recorder()
    fit(mlp(), freeze="4", thaw={2: "3"}, epochs=3, batch_size=16, cache=tmp_path, callbacks=[recorder])
    names = [call[0] for call in recorder.calls]
    assert (names.count("on_train_start"), names.count("on_train_end"), names.count("on_train_epoch_end")) == (1, 1, 3)
    assert recorder.calls[-1] == ("on_train_end", 3, 9, 3)


def test_a_callback_sees_the_trained_model_and_its_loss(tmp_path):
    seen = {}

    class Keep:
        def on_train_batch_end(self, run):
            seen["loss"] = float(run.loss)

        def on_train_end(self, run):
            seen["weight"], seen["best"] = run.model[7].weight.clone(), run.history[-1]

    model = mlp()
    result = fit(model, val=data(20), freeze="2", epochs=3, batch_size=N_ALL, cache=tmp_path, callbacks=[Keep()])
    assert torch.equal(seen["weight"], model[7].weight)
    assert seen["best"] == result.history[-1]
    assert seen["loss"] == pytest.approx(result.history[-1].train_loss)


N_ALL = 48


class StopAt:
    """Ends the run after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, run):
        if run.epoch == self.epoch:
            run.stop()


def test_a_run_is_ended_by_a_callback_and_stays_ended(tmp_path):
    result = fit(mlp(), freeze="2", epochs=5, out=tmp_path, callbacks=[StopAt(2)])
    assert (len(result.history), result.stopped_early) == (2, True)
    assert len(fit(mlp(), freeze="2", epochs=5, out=tmp_path, resume=tmp_path).history) == 2


def test_an_error_in_a_callback_keeps_the_last_checkpoint(tmp_path):
    class Fails:
        def on_train_epoch_start(self, run):
            if run.epoch == 3:
                raise RuntimeError("the disk of the tracker is full")

    with pytest.raises(fl.DataError, match="the disk of the tracker is full") as error:
        fit(mlp(), freeze="2", epochs=4, out=tmp_path, callbacks=[Fails()])
    assert "on_train_epoch_start, test_callbacks.py" in error.value.where
    resumed, whole = mlp(), mlp()
    fit(resumed, freeze="2", epochs=4, out=tmp_path, resume=tmp_path)
    fit(whole, freeze="2", epochs=4, cache=False)
    torch.testing.assert_close(resumed[7].weight, whole[7].weight, rtol=0, atol=1e-6)


class Looks:
    """Runs the whole model, in evaluation, and leaves it so."""

    def on_train_batch_end(self, run):
        run.model.eval()
        with torch.no_grad():
            run.model(torch.ones(2, 6))
        run.module.eval()


@pytest.mark.parametrize("cache", [True, False])
def test_a_callback_that_evaluates_changes_no_bit(tmp_path, cache):
    looked, plain = mlp(), mlp()
    for model, callbacks in ((looked, [Looks()]), (plain, [])):
        fit(model, freeze="2", epochs=2, batch_size=16, cache=tmp_path if cache else False, callbacks=callbacks)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in looked.state_dict().items())


class Thaws:
    """What finetuning callbacks of other trainers do."""

    def on_train_epoch_start(self, run):
        run.model.requires_grad_(True)


def test_a_callback_does_not_move_the_frost_line(tmp_path):
    with pytest.raises(fl.DataError, match="A callback moved the frost line") as error:
        fit(mlp(), freeze="2", cache=tmp_path, callbacks=[Thaws()])
    assert error.value.where == "Thaws.on_train_epoch_start"
    assert "'0.weight'" in error.value.received


class Misspelt:
    def on_epoch_end(self, run):
        pass


class Nothing:
    pass


class OfLightning:
    """The arguments of `lightning.Callback`."""

    def on_train_start(self, trainer, pl_module):
        pass


class OfTransformers:
    """The arguments of `transformers.TrainerCallback`."""

    def on_train_end(self, args, state, control, **kwargs):
        pass


@pytest.mark.parametrize(
    ("callbacks", "what", "received"),
    [
        ([OfLightning()], "This callback cannot be called with the run", "OfLightning.on_train_start(trainer"),
        ([OfTransformers()], "This callback cannot be called with the run", "OfTransformers.on_train_end(args"),
        ([StopAt], "This callback cannot be called with the run", "the class StopAt"),
        ([Misspelt()], "a method that fit never calls: on_epoch_end", "Misspelt"),
        ([Nothing()], "This callback has no method that fit calls", "Nothing"),
        ([lambda run: None], "This callback has no method that fit calls", "function"),
        (StopAt(1), "callbacks is not a list", "StopAt"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks, what, received):
    with pytest.raises(fl.DataError, match=what) as error:
        fit(mlp(), callbacks=callbacks)
    assert error.value.where == "fit(callbacks=...)"
    assert received in error.value.received


def test_figures_of_a_callback_go_to_the_logs(tmp_path):
    class Tells:
        def on_train_epoch_end(self, run):
            run.log({"largest weight": run.model[7].weight.abs().max()})

    fit(mlp(), freeze="2", epochs=2, out=tmp_path, callbacks=[Tells()], monitor=False)
    assert "largest weight" in (tmp_path / "logs" / "version_0" / "metrics.csv").read_text()
