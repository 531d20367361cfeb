"""Every option of `fit`: the same losses cached and uncached, and an interrupted run goes on to the bit."""

import pytest
import torch

import frostline as fl
from frostline.training import stepper
from helpers_fit import data, fit, mlp


class Halving:
    """Halves the learning rate where the loss has not fallen, and remembers the loss."""

    def __init__(self):
        self.last = 0.0

    def on_train_epoch_end(self, run):
        if run.history[-1].train_loss > self.last - 0.05:
            run.optimizer.param_groups[0]["lr"] *= 0.5
        self.last = run.history[-1].train_loss

    def state_dict(self):
        return {"last": self.last}

    def load_state_dict(self, state):
        self.last = state["last"]


OPTIONS = {
    "accumulation": lambda: {"accumulation": 3, "clip": fl.remedies.clip_by_percentile(50, warmup=2)},
    "warmup": lambda: {"warmup": 1.5},
    "schedule per step": lambda: {"scheduler": "cosine", "scheduler_interval": "step", "warmup": 0.5},
    "ema": lambda: {"ema": 0.8},
    "smoothing and weights": lambda: {"label_smoothing": 0.1, "class_weights": "balanced"},
    "callback": lambda: {"callbacks": [Halving()]},
    "float16 and a clip": lambda: {"precision": "16-mixed", "clip": fl.remedies.clip_by_norm(0.1)},
    "scheduler of the caller": lambda: {
        "scheduler": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        "scheduler_interval": "step",
    },
}


def run(**options):
    model = mlp()
    result = fit(model, val=data(20), freeze="2", epochs=4, batch_size=7, **options)
    return [(epoch.train_loss, epoch.val_loss) for epoch in result.history], model


@pytest.mark.parametrize("name", OPTIONS)
def test_cached_and_uncached_have_the_same_losses(tmp_path, name):
    cached, one = run(cache=tmp_path, **OPTIONS[name]())
    uncached, other = run(cache=False, **OPTIONS[name]())
    torch.testing.assert_close(torch.tensor(cached), torch.tensor(uncached), rtol=0, atol=1e-6)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)
    assert cached != run(cache=tmp_path)[0]  # the option does something


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_that_was_broken_off_goes_on_to_the_bit(tmp_path, name, monkeypatch):
    expected, whole = run(out=tmp_path / "whole", **OPTIONS[name]())
    real, calls = stepper.check_scalar, []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 18:  # in the third epoch
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(stepper, "check_scalar", failing)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "broken", **OPTIONS[name]())
    resumed, model = run(out=tmp_path / "broken", resume=tmp_path / "broken", **OPTIONS[name]())
    assert resumed == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "callback"])
def test_a_run_is_not_resumed_without_the_option(tmp_path, name):
    run(out=tmp_path, **OPTIONS[name]())
    with pytest.raises(fl.DataError, match="made with other settings"):
        run(out=tmp_path, resume=tmp_path)


def together():
    """All options of steps at once."""
    return {"accumulation": 2, "warmup": 0.5, "scheduler": "cosine", "scheduler_interval": "step", "ema": 0.8,
            "label_smoothing": 0.1, "clip": fl.remedies.clip_by_norm(0.5), "epochs": 4, "batch_size": 7}  # fmt: skip


def losses(result):
    return torch.tensor([(epoch.train_loss, epoch.val_loss or 0.0) for epoch in result.history])


def test_options_go_together_with_phases(tmp_path):
    def thawed(**options):
        model = mlp()
        return fit(model, val=data(20), freeze="4", thaw={3: "3"}, **together(), **options), model

    cached, one = thawed(cache=tmp_path / "cache")
    uncached, other = thawed(cache=False)
    torch.testing.assert_close(losses(cached), losses(uncached), rtol=0, atol=1e-6)
    assert len(cached.phases) == 2
    assert not torch.equal(one[3].weight, mlp()[3].weight)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)


def test_options_go_together_with_views(tmp_path):
    class Random(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            inputs, target = data()[index]
            return inputs + torch.randn(()), target

    runs = [fit(mlp(), Random(), freeze="2", views=2, cache=cache, **together()) for cache in (tmp_path, False)]
    torch.testing.assert_close(*map(losses, runs), rtol=0, atol=1e-6)


def test_options_go_together_with_samples_of_any_length(tmp_path):
    from helpers_lengths import Sentences, pad, sentences

    def trained(cache):
        torch.manual_seed(0)
        return fit(Sentences(), sentences(), freeze="low", collate_fn=pad, cache=cache, **together())

    torch.testing.assert_close(losses(trained(tmp_path)), losses(trained(False)), rtol=0, atol=1e-5)
