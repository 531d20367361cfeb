import json
import random

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.records import Epoch
from frostline.training import make_optimizer, make_scheduler
from frostline.training.checkpoints import (
    Progress,
    load_checkpoint,
    put_back,
    save_checkpoint,
    trained_state,
)
from frostline.training.run_files import has_checkpoint

SETTINGS = {"lr": 0.1, "epochs": 5, "loss": "mse"}


class Run:
    """A model in the middle of its training."""

    def __init__(self, optimizer: str = "adamw", scheduler: str | None = "cosine", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
        fl.freeze(self.model, through="0")
        self.optimizer = make_optimizer(optimizer, self.model.parameters(), 0.1)
        self.scheduler = make_scheduler(scheduler, self.optimizer, 5)
        self.progress = Progress([], -1, None, {})

    def step(self) -> float:
        """One step that depends on everything a checkpoint must hold."""
        self.model.train()
        x = torch.randn(4, 3) + random.random() + np.random.rand()
        loss = self.model(x).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()
        self.progress.history.append(Epoch(len(self.progress.history), loss.item(), None, None, 0.1, 0.5))
        return loss.item()

    def save(self, folder, **settings) -> None:
        save_checkpoint(folder, self.model, self.optimizer, self.scheduler, self.progress, {**SETTINGS, **settings})

    def load(self, folder, **settings) -> None:
        self.progress = load_checkpoint(
            folder, self.model, self.optimizer, self.scheduler, {**SETTINGS, **settings}
        )  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("scheduler", [None, "cosine", "step"])
def test_a_run_goes_on_to_the_bit(tmp_path, optimizer, scheduler):
    run = Run(optimizer, scheduler)
    for _ in range(2):
        run.step()
    run.progress.best, run.progress.best_epoch, run.progress.best_score = trained_state(run.model), 1, -0.25
    run.save(tmp_path)
    best = {name: tensor.clone() for name, tensor in run.progress.best.items()}
    expected = [run.step() for _ in range(3)]
    other = Run(optimizer, scheduler, seed=0)  # the frozen layers are the model's, not the checkpoint's
    torch.manual_seed(77)
    other.load(tmp_path)
    assert (other.progress.best_epoch, other.progress.best_score, other.progress.stopped_early) == (1, -0.25, False)
    assert all(torch.equal(tensor, best[name]) for name, tensor in other.progress.best.items())
    assert [other.step() for _ in range(3)] == expected
    assert other.progress.history == run.progress.history
    for key, value in run.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[key], value), key


def test_only_what_training_changes_is_held(tmp_path):
    run = Run()
    assert [name for name in trained_state(run.model) if name.startswith("0.")] == []
    assert {"1.running_mean", "1.num_batches_tracked", "3.weight"} <= set(trained_state(run.model))
    run.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_state_is_put_back_in_place():
    run = Run()
    state = {name: tensor.clone() for name, tensor in trained_state(run.model).items()}
    weight = run.model[3].weight
    run.step()
    put_back(run.model, state)
    assert run.model[3].weight is weight
    assert all(torch.equal(tensor, state[name]) for name, tensor in trained_state(run.model).items())


def test_one_checkpoint_at_a_time_and_the_index_is_the_commit_point(tmp_path):
    run = Run()
    assert not has_checkpoint(tmp_path)
    for _ in range(3):
        run.step()
        run.save(tmp_path)
        assert has_checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "state-00003.safetensors"]
    (tmp_path / "state-00004.safetensors").write_bytes(b"half")  # killed before the index was written
    other = Run()
    other.load(tmp_path)
    assert len(other.progress.history) == 3


def test_a_checkpoint_holds_no_reference_to_what_trains_on(tmp_path):
    run = Run()
    run.step()
    run.save(tmp_path)
    other = Run()
    other.load(tmp_path)
    kept = {name: tensor.clone() for name, tensor in other.progress.best.items()}
    other.step()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in other.progress.best.items())


def test_a_run_goes_on_over_the_same_sparse_buffers_only(tmp_path):
    def run(*entries: float) -> Run:
        made = Run()
        made.model.register_buffer("adjacency", torch.diag(torch.tensor(entries)).to_sparse())
        return made

    first = run(1.0, 2.0)
    first.step()
    first.save(tmp_path)
    again = run(1.0, 2.0)
    again.load(tmp_path)
    assert torch.equal(again.model[3].weight, first.model[3].weight)
    for other in (run(1.0, 3.0), Run()):
        with pytest.raises(fl.DataError, match="sparse buffer is not the one") as error:
            other.load(tmp_path)
        assert error.value.where.endswith("adjacency")


def test_other_settings_are_refused_and_more_epochs_are_not(tmp_path):
    run = Run()
    run.step()
    run.save(tmp_path)
    Run().load(tmp_path, epochs=50)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        Run().load(tmp_path, lr=0.2)
    assert error.value.received == "0.1 in the checkpoint, 0.2 now"


def test_a_state_that_cannot_be_read_is_said(tmp_path):
    run = Run()
    run.step()
    run.save(tmp_path)
    state = tmp_path / json.loads((tmp_path / "checkpoint.json").read_text())["state"]
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(fl.CacheError, match="state of a checkpoint cannot be read"):
        Run().load(tmp_path)


def test_an_optimizer_state_that_is_no_json_is_refused(tmp_path):
    run = Run()
    run.optimizer.param_groups[0]["note"] = object()
    with pytest.raises(fl.DataError, match="optimizer or scheduler cannot be saved as JSON"):
        run.save(tmp_path)


class Remembering:
    """A clip that remembers what it has seen."""

    def __init__(self, seen=0):
        self.seen = seen

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_a_clip_goes_on_with_what_it_remembers_and_may_come_or_go(tmp_path):
    run, again = Run(), Remembering()
    parts = (run.model, run.optimizer, run.scheduler)
    save_checkpoint(tmp_path, *parts, run.progress, SETTINGS, {"clip": Remembering(7)})
    load_checkpoint(tmp_path, *parts, SETTINGS, {"clip": again})
    assert again.seen == 7
    load_checkpoint(tmp_path, *parts, SETTINGS, {"clip": lambda parameters: None})
    run.save(tmp_path)
    load_checkpoint(tmp_path, *parts, SETTINGS, {"clip": again})
    assert again.seen == 7


def test_a_setting_that_only_the_checkpoint_knows_is_another_setting(tmp_path):
    run = Run()
    run.save(tmp_path, healing="Leaky ReLU")
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        run.load(tmp_path)
    assert "healing" in error.value.where
    assert "None now" in error.value.received
    run.load(tmp_path, healing="Leaky ReLU", epochs=9)
