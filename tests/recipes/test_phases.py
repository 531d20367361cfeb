"""Laws of runs in phases; their phases, plans and refusals."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.recipes import course
from frostline.recipes.phases import MovingLine
from frostline.training import DatasetBatches, Progress, make_optimizer
from helpers_fit import D, data, fit

EPOCHS, SIZE = 6, 16
THAW = fl.ThawSchedule({3: "blocks.1", 5: "blocks.0"}, warmup=0.7)


class Net(nn.Module):
    """Three blocks and an output layer, with everything that a phase must follow: BatchNorm, dropout, a bare weight."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(D))
        self.stem = nn.Linear(D, 12)
        block = [nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)) for _ in range(3)]
        self.blocks = nn.ModuleList(block)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.stem(x * self.scale).relu()
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net() -> Net:
    torch.manual_seed(1)
    return Net()


def options(**changed):
    return {"freeze": "blocks.2", "thaw": THAW, "epochs": EPOCHS, "batch_size": SIZE, "lr": 0.05, "seed": 3,
            "monitor": False, **changed}  # fmt: skip


def same(one: nn.Module, other: nn.Module, **tolerance) -> None:
    for name, value in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], value, msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


def losses(result):
    return [(epoch.train_loss, epoch.val_loss) for epoch in result.history]


@pytest.fixture(autouse=True)
def _phases_are_cached(monkeypatch):
    """Networks of a few layers are quicker without a cache: here, lines are followed by it all the same."""
    monkeypatch.setattr(course, "_SPLITS", 0.0)


SCHEDULES = {
    "thaw": {},
    "thaw all": {"thaw": {2: "blocks.1", 4: None}},
    "list": {"thaw": ["blocks.2", "blocks.1"]},
    "cosine, sgd": {"optimizer": "sgd", "scheduler": "cosine"},
    "statistics kept": {"thaw": fl.ThawSchedule({3: "blocks.1"}, keep_statistics=True)},
    "plateau": {"thaw": fl.ThawSchedule("plateau", patience=1), "lr": 1e-7},
    "freeze": {"freeze": {3: "blocks.0", 5: "blocks.1"}, "thaw": None},
    "converged": {"freeze": fl.FreezeSchedule(rate=0.9), "thaw": None},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_with_a_cache_is_the_run_without_one(tmp_path, name):
    cached, uncached = net(), net()
    a = fit(cached, val=data(20), **options(**SCHEDULES[name], out=tmp_path))
    b = fit(uncached, val=data(20), **options(**SCHEDULES[name], cache=False))
    assert len(a.phases) > 1
    assert [(p.number, p.first_epoch, p.change) for p in a.phases] == [
        (p.number, p.first_epoch, p.change) for p in b.phases
    ]
    for one, other in zip(losses(a), losses(b), strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    same(cached, uncached, rtol=0, atol=1e-6)


class Killed(BaseException):
    pass


def killed_at(step: int):
    """A clip that ends the run at this step."""
    count = 0

    def clip(parameters):
        nonlocal count
        count += 1
        if count == step:
            raise Killed

    return clip


def copied_at(steps, out: Path, left: Path):
    """A clip that copies the folder of the run at these steps: what a process that is killed there leaves behind."""
    count = 0

    def clip(parameters):
        nonlocal count
        count += 1
        if count in steps:
            shutil.copytree(out, left / str(count))

    return clip


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_that_was_killed_in_any_epoch_goes_on_to_the_bit(tmp_path, name):
    in_epoch = -(-len(data()) // SIZE)
    epochs = range(2, EPOCHS + 1) if name in ("thaw", "converged") else (3, 5)
    steps = {(epoch - 1) * in_epoch + 2: epoch for epoch in epochs}
    whole, out = net(), tmp_path / "whole"
    clip = copied_at(steps, out, tmp_path)
    expected = fit(whole, val=data(20), **options(**SCHEDULES[name], out=out, clip=clip))
    for step, epoch in steps.items():
        out = tmp_path / str(step)
        history = json.loads((out / "checkpoint.json").read_text())["history"]
        assert len(history) == epoch - 1
        resumed = net()
        clip = copied_at((), out, tmp_path)
        result = fit(resumed, val=data(20), **options(**SCHEDULES[name], out=out, resume=out, clip=clip))
        assert losses(result) == losses(expected), epoch
        assert result.phases[-1].number == expected.phases[-1].number
        assert {n: p.requires_grad for n, p in resumed.named_parameters()} == {
            n: p.requires_grad for n, p in whole.named_parameters()
        }
        same(resumed, whole)


def test_a_thaw_is_the_loop_that_one_writes_by_hand(tmp_path):
    ours, plain = net(), net()
    result = fit(ours, **options(out=tmp_path))
    fl.freeze(plain, through="blocks.2")
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=0.05)
    feed, found = DatasetBatches(data(), SIZE, shuffle=True, seed=3), []
    torch.manual_seed(3)
    for epoch in range(1, EPOCHS + 1):
        if layer := THAW.at.get(epoch):
            fl.thaw(plain, down_to=layer)
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            new = [p for p in plain.parameters() if p.requires_grad and id(p) not in held]
            rate = 0.05 / 2.6 ** len(optimizer.param_groups)
            optimizer.add_param_group({"params": new, "lr": rate})
        plain.train()
        total = 0.0
        for step, (inputs, target) in enumerate(feed):
            if epoch in THAW.at:
                optimizer.param_groups[-1]["lr"] = rate * (step + 1) / 3 if step < 2 else rate  # 0.7 of 3 steps is 2
            loss = nn.functional.cross_entropy(plain(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(target)
        found.append(total / len(data()))
    assert [epoch.train_loss for epoch in result.history] == pytest.approx(found, rel=1e-6)
    same(ours, plain, rtol=0, atol=1e-6)


def test_the_state_of_what_trained_before_is_the_same_bytes_after_a_thaw():
    model, seen = net(), []
    optimizer = None

    def make(parameters):
        nonlocal optimizer
        optimizer = torch.optim.AdamW(parameters, lr=0.05)
        return optimizer

    real = MovingLine.phases

    def watched(self, progress):
        phases = real(self, progress)
        while True:
            before = copy.deepcopy(optimizer.state_dict()["state"])
            phase = next(phases, None)
            if phase is None:
                return
            seen.append((before, copy.deepcopy(optimizer.state_dict()["state"])))
            yield phase

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingLine, "phases", watched)
        fit(model, **options(optimizer=make, cache=False))
    assert [len(before) for before, _ in seen] == [0, 2, 10]  # the output layer; two blocks more
    for before, after in seen:
        assert before.keys() == after.keys()
        assert all(torch.equal(before[at][key], after[at][key]) for at in before for key in before[at])
    assert len(optimizer.state) == 14


@pytest.mark.parametrize("cache", [True, False])
def test_nothing_that_is_frozen_moves(tmp_path, cache):
    model, before = net(), copy.deepcopy(net().state_dict())
    history = []

    def clip(parameters):
        history.append({name: value.clone() for name, value in model.state_dict().items()})

    fit(model, **options(clip=clip, cache=tmp_path if cache else False))
    steps = -(-len(data()) // SIZE)
    for first, last, frozen in [(0, 2, ("blocks.0", "blocks.1")), (2, 4, ("blocks.0",)), (0, 6, ("stem", "scale"))]:
        for seen in history[first * steps : last * steps]:
            for name, value in seen.items():
                assert not name.startswith(frozen) or torch.equal(value, before[name]), (name, first)
    assert not torch.equal(model.state_dict()["blocks.0.0.weight"], before["blocks.0.0.weight"])
    assert not torch.equal(model.state_dict()["blocks.1.1.running_mean"], before["blocks.1.1.running_mean"])
    assert torch.equal(model.state_dict()["stem.weight"], before["stem.weight"])


def test_statistics_of_thawed_layers_are_kept_if_asked_for():
    model, before = net(), copy.deepcopy(net().state_dict())
    thaw = fl.ThawSchedule({2: "blocks.1"}, keep_statistics=True)
    fit(model, **options(thaw=thaw, freeze="blocks.2", epochs=3, cache=False))
    after = model.state_dict()
    assert torch.equal(after["blocks.1.1.running_mean"], before["blocks.1.1.running_mean"])
    assert not torch.equal(after["blocks.1.1.weight"], before["blocks.1.1.weight"])
    assert not model.train().blocks[1][1].training
    fl.thaw(model)
    assert model.train().blocks[1][1].training


def test_the_best_weights_are_put_back_over_phases(tmp_path):
    model, reference = net(), net()
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    result = fit(model, val=data(20), metric=lambda output, target: next(scores), **options(out=tmp_path))
    fit(reference, **options(thaw=None, epochs=2, cache=False))
    assert result.best_epoch == 2
    same(model, reference)  # the blocks that were thawed later too


def test_patience_begins_anew_with_each_phase_and_ends_only_the_last():
    scores = iter([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    result = fit(net(), val=data(20), metric=lambda output, target: next(scores), patience=2,
                 **options(thaw={5: "blocks.1"}, epochs=9, cache=False))  # fmt: skip
    assert (len(result.history), result.stopped_early, result.best_epoch) == (6, True, 1)


def test_a_plateau_thaws_one_block_after_another():
    scores = iter([0.1, 0.2, 0.2, 0.2, 0.5, 0.1, 0.1, 0.1, 0.1])
    schedule = fl.ThawSchedule("plateau", layers=["blocks.1", "blocks.0"], patience=2)
    result = fit(net(), val=data(20), metric=lambda output, target: next(scores),
                 **options(thaw=schedule, epochs=9, cache=False))  # fmt: skip
    assert [(phase.first_epoch, phase.change) for phase in result.phases] == [
        (1, ""), (5, "thawed down to 'blocks.1'"), (8, "thawed down to 'blocks.0'"),
    ]  # fmt: skip


def test_a_block_that_has_converged_is_frozen(tmp_path):
    model = net()
    result = fit(model, **options(freeze=fl.FreezeSchedule(rate=0.9), thaw=None, out=tmp_path))
    assert result.phases[-1].change.startswith("frozen through")
    assert not model.stem.weight.requires_grad
    assert result.cache is not None


def test_modes_are_as_before_and_thawed_layers_follow_the_model():
    model = net().train()
    model.blocks[1][3].eval()
    fl.freeze(model, through="blocks.2")
    fit(model, **options(freeze=None, cache=False))
    assert model.training
    assert model.blocks[0].training
    assert not model.blocks[1][3].training  # its own mode, from before the freeze
    assert not model.stem.training


def test_an_error_leaves_the_line_where_it_was():
    model = net()
    with pytest.raises(Killed):
        fit(model, **options(clip=killed_at(8), cache=False))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def planned(thaw=None, freeze=None, through="blocks.2", epochs=9, has_val=True):
    model = net()
    if through:
        fl.freeze(model, through=through)
    schedule = fl.FreezeSchedule(freeze) if freeze is not None else fl.ThawSchedule(thaw)
    return MovingLine(model, schedule, epochs=epochs, has_val=has_val, inputs=lambda: data().tensors[0][:2])


def test_the_plan_is_there_before_anything_runs():
    line = planned({3: "blocks.1", 5: None})
    assert [str(phase) for phase in line.plan] == [
        "phase 1, from epoch 1: the line as it is",
        "phase 2, from epoch 3: thawed down to 'blocks.1' (360 parameters), rate 0.385 of the first",
        "phase 3, from epoch 5: the whole model thawed (270 parameters), rate 0.148 of the first",
    ]
    assert len(line.trains) == len(list(net().parameters()))
    assert [p.change for p in planned("plateau").plan] == [
        "", "thawed down to 'blocks.2'", "thawed down to 'blocks.1'", "thawed down to 'blocks.0'",
        "the whole model thawed",
    ]  # fmt: skip


WRONG = {
    "trainable already": ({"thaw": {3: "head"}}, "where nothing changes: its parameters are trainable already"),
    "upwards": ({"thaw": {3: "blocks.0", 5: "blocks.1"}}, "trainable already"),
    "frozen already": ({"freeze": {3: "blocks.0"}}, "frozen already"),
    "nothing frozen": ({"thaw": {3: "stem"}, "through": None}, "where nothing changes"),
    "nothing left frozen": ({"thaw": {3: "blocks.0"}, "through": None}, "where nothing changes"),
    "everything": ({"freeze": {3: "head"}}, "nothing is left to train"),
    "beyond": ({"thaw": {3: "blocks.1", 12: "blocks.0"}}, "goes beyond the run"),
    "no validation": ({"thaw": "plateau", "has_val": False}, "A plateau is seen on validation data"),
    "nothing to thaw": ({"thaw": "plateau", "through": None}, "finds no layer to thaw"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_schedule_that_does_not_fit_is_refused(name):
    arguments, text = WRONG[name]
    with pytest.raises(fl.DataError, match=text) as error:
        planned(**arguments)
    assert error.value.do


def test_a_thaw_that_leaves_nothing_frozen_is_named():
    model = nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 2))
    fl.freeze(model, through="1")
    with pytest.raises(fl.DataError, match="there is no frost line left"):
        MovingLine(model, fl.ThawSchedule({2: "0"}), epochs=3, has_val=False)
    assert len(MovingLine(model, fl.ThawSchedule({2: None}), epochs=3, has_val=False).plan) == 2
    with pytest.raises(fl.DataError, match="finds no layer to freeze"):
        MovingLine(
            nn.Sequential(nn.Linear(2, 2)),
            fl.FreezeSchedule(),
            epochs=3,
            has_val=False,
            inputs=lambda: torch.ones(2, 2),
        )


def test_an_unknown_layer_is_named_with_its_nearest():
    with pytest.raises(fl.LayerNotFound) as error:
        planned({3: "block.1"})
    assert "blocks.1" in error.value.do


def test_a_line_without_a_schedule_is_one_phase():
    line = MovingLine(net(), None, epochs=3, has_val=False)
    progress = Progress([], 0, None, {})
    assert not line.is_moving
    assert line.settings(progress, 3) == {}
    assert next(line.phases(progress)).number == 1
    optimizer = make_optimizer("sgd", net().parameters(), 0.1)
    assert line.joined(optimizer) is optimizer


def test_what_cannot_follow_a_line_is_refused(tmp_path):
    model = net()
    fl.freeze(model, through="blocks.1")
    split = fl.split(model, data().tensors[0][:4])
    cached = fl.FeatureCache(tmp_path).fill(split, data(), progress=False)
    with pytest.raises(fl.DataError, match="Cached features belong to one frost line") as error:
        fit(split.head, cached, thaw={2: "blocks.1"})
    assert "FeatureCache" in error.value.do
    with pytest.raises(fl.DataError, match="healed before a schedule"), pytest.warns(DeprecationWarning, match="heal"):
        fit(net(), **options(monitor="heal"))
    with pytest.raises(fl.DataError, match="takes no parameters that are thawed later"):
        fit(net(), **options(optimizer=lambda parameters: torch.optim.LBFGS(parameters), cache=False))
    with pytest.raises(fl.DataError, match="moves weights after they are frozen"):
        fit(net(), freeze={2: "blocks.1"}, optimizer=lambda own: torch.optim.LBFGS(own), cache=False, epochs=3)
    with pytest.raises(fl.DataError, match="does not take this number of groups of the optimizer"):
        fit(
            net(), **options(scheduler=lambda own: torch.optim.lr_scheduler.LambdaLR(own, [lambda _: 1.0]), cache=False)
        )
    with pytest.raises(fl.DataError, match="one rate for all groups"):
        fit(net(), **options(scheduler=lambda own: torch.optim.lr_scheduler.OneCycleLR(own, 0.1, 18), cache=False))


def own_optimizer(model, groups, **given):
    fl.freeze(model, through="blocks.2")
    return torch.optim.SGD(groups(model), **{"lr": 0.1, **given})


RATES = [0.1, 0.1 / 2.6, 0.1 / 2.6**2]
GROUPS = {
    "holds what trains": (lambda m: [p for p in m.parameters() if p.requires_grad], RATES),
    "holds all": (lambda m: m.parameters(), RATES),
    "holds all, named": (lambda m: m.named_parameters(), RATES),
    "named": (lambda m: [(n, p) for n, p in m.named_parameters() if p.requires_grad], RATES),
    "a rate of its own": (lambda m: [{"params": m.head.parameters()},
                                     {"params": [*m.stem.parameters(), *m.blocks.parameters()], "lr": 0.01}],
                          [0.1, 0.01, 0.01, 0.01]),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_an_optimizer_of_the_caller_has_a_group_and_a_rate_for_each_thaw(name, capsys):
    groups, rates = GROUPS[name]
    model, seen = net(), []
    optimizer = own_optimizer(model, groups, momentum=0.9)
    weight, bias = model.blocks[1][0].weight, model.blocks[0][0].bias

    def clip(parameters):
        (own,) = [group["lr"] for group in optimizer.param_groups if any(p is weight for p in group["params"])]
        seen.append(own)

    fit(model, **options(freeze=None, optimizer=optimizer, cache=False, clip=clip, progress=True))
    assert sorted((group["lr"] for group in optimizer.param_groups), reverse=True) == pytest.approx(rates)
    assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)
    (held,) = [group for group in optimizer.param_groups if any(p is weight for p in group["params"])]
    assert not any(parameter is bias for parameter in held["params"])
    steps = -(-len(data()) // SIZE)
    assert seen[2 * steps :][:3] == pytest.approx([held["lr"] / 3, held["lr"] * 2 / 3, held["lr"]])  # the warm-up
    assert f"rate {held['lr'] / 0.1:.3g} of the first" in capsys.readouterr().err


@pytest.mark.parametrize("name", GROUPS)
def test_after_an_error_the_optimizer_of_the_caller_has_the_groups_that_it_had(name):
    model = net()
    optimizer = own_optimizer(model, GROUPS[name][0], momentum=0.9)
    before = [({key: value for key, value in group.items() if key != "params"}, [*map(id, group["params"])])
              for group in optimizer.param_groups]  # fmt: skip
    with pytest.raises(Killed):
        fit(model, **options(freeze=None, optimizer=optimizer, cache=False, clip=killed_at(17)))
    assert before == [({key: value for key, value in group.items() if key != "params"}, [*map(id, group["params"])])
                      for group in optimizer.param_groups]  # fmt: skip
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in optimizer.state} <= held


def test_the_same_optimizer_goes_on_with_the_groups_that_it_got():
    model = net()
    optimizer = own_optimizer(model, lambda m: m.parameters())
    for _ in range(2):
        fit(model, **options(optimizer=optimizer, cache=False, epochs=5))
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(RATES)


def test_epochs_that_are_left_of_a_phase_and_of_a_run():
    line = planned({3: "blocks.1", 5: None})
    progress = Progress([], 0, None, {})
    assert (line.num_epochs(progress), line.num_epochs(progress, of_run=True)) == (2, 9)
    progress.history += [None]
    assert (line.num_epochs(progress), line.num_epochs(progress, of_run=True)) == (1, 8)
    assert line.length(progress) == 2  # from the beginning of the phase: a resumed run weighs it as the run before
    assert planned("plateau").num_epochs(progress) == 8


def test_the_cost_of_a_cache_is_that_of_the_epochs_of_its_phase(tmp_path, monkeypatch):
    from frostline.recipes import prepare

    asked = []
    monkeypatch.setattr(prepare, "warn_of_cost", lambda part, num_epochs, *_: asked.append(num_epochs))
    fit(net(), **options(out=tmp_path, progress=True))
    assert asked == [6, 2, 2]  # the rows of the lowest line serve the run; those of higher lines are computed from them
    asked.clear()
    fit(net(), **options(freeze={3: "blocks.0", 5: "blocks.1"}, thaw=None, cache=tmp_path / "b", progress=True))
    assert asked == [2]


def test_weights_that_freeze_later_are_not_averaged():
    with pytest.raises(fl.DataError, match="Weights that freeze while the model trains are not averaged") as error:
        fl.fit(net(), data(), epochs=3, freeze={2: "stem"}, ema=0.9, progress=False)
    assert error.value.where == "fit(freeze=..., ema=...)"
