"""A run whose process is killed several times goes on to the bit, with any schedule, also in the epoch of a thaw."""

import os
import signal
import warnings

import pytest
import torch

import frostline as fl
from helpers_fit import data, fit, mlp

SIZE, EPOCHS = 16, 6
STEPS = len(data()) // SIZE
SCHEDULES = {
    "by epoch": {"freeze": "5", "thaw": {3: "3", 5: None}},
    "plateau": {"freeze": "5", "thaw": fl.ThawSchedule("plateau", patience=1), "lr": 1e-7},
    "converged": {"freeze": fl.FreezeSchedule(rate=0.9)},
    "none": {"freeze": "2", "scheduler": "cosine"},
}
KILLS = [(2, 1), (3, 2), (3, 1), (5, 1)]  # epoch and step; the third epoch is begun three times


def trained(name, out, cache, **options):
    model = mlp()
    given = {"lr": 0.02, "epochs": EPOCHS, "batch_size": SIZE, "seed": 3, "out": out, **SCHEDULES[name], **options}
    result = fit(model, val=data(20), cache=cache, **given)
    return model, result


def killed(name, out, cache, step):
    """Train in a process of its own, which is killed after so many steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        child = os.fork()
    if not child:
        done = 0

        def clip(parameters):
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            trained(name, out, cache, resume=out, clip=clip)
        finally:
            os._exit(3)  # it was not killed
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that is killed is made by fork")
@pytest.mark.parametrize(("name", "is_cached"), [*((name, True) for name in SCHEDULES), ("plateau", False)])
def test_a_run_that_was_killed_several_times_goes_on_to_the_bit(tmp_path, name, is_cached):
    clip = {"clip": lambda parameters: None}
    whole, expected = trained(name, tmp_path / "whole", is_cached, **clip)
    cut, cache, finished = tmp_path / "cut", is_cached, 0
    for epoch, step in KILLS:
        killed(name, cut, cache, (epoch - 1 - finished) * STEPS + step)
        finished = epoch - 1
    resumed, result = trained(name, cut, cache, resume=cut, **clip)
    figures = [[(e.train_loss, e.val_loss, e.val_metric, e.lr) for e in one.history] for one in (result, expected)]
    assert figures[0] == figures[1]
    assert result.phases[-1].change == expected.phases[-1].change
    for (key, value), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, other), key
    assert [p.requires_grad for p in whole.parameters()] == [p.requires_grad for p in resumed.parameters()]
