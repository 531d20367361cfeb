import pytest
import torch
from torch import nn

from frostline import Monitor
from helpers_health import mlp, sgd, task


def watched(loop, epochs=6):
    model = mlp(depth=2)
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        for _ in range(epochs):
            loop(model, optimizer, monitor, task(12))
    return monitor


def told(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def never(model, optimizer, monitor, batches):
    for batch in batches:
        optimizer.zero_grad()
        loss = told(model, batch)
        loss.backward()
        monitor.step(loss)


def once(model, optimizer, monitor, batches):
    never(model, optimizer, monitor, batches)
    optimizer.step()


def on_purpose(model, optimizer, monitor, batches):
    optimizer.zero_grad()
    for batch in batches:
        loss = told(model, batch) / len(batches)
        loss.backward()
        monitor.step(loss)
    optimizer.step()


def each(model, optimizer, monitor, batches):
    for batch in batches:
        optimizer.zero_grad()
        loss = told(model, batch)
        loss.backward()
        optimizer.step()
        monitor.step(loss)


def anew(model, optimizer, monitor, batches):
    if len(monitor.evidence.losses):
        optimizer = sgd(model)
    each(model, optimizer, monitor, batches)


def by_hand(model, _, monitor, batches):
    for batch in batches:
        loss = told(model, batch)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
        monitor.step(loss)


def without_backward(model, optimizer, monitor, batches):
    for batch in batches:
        optimizer.zero_grad()
        loss = told(model, batch)
        optimizer.step()
        monitor.step(loss)


def done_at_once(model, optimizer, monitor, batches):
    for batch in batches:
        is_done = bool(len(monitor.evidence.losses))  # and never reset
        optimizer.zero_grad()
        loss = torch.zeros((), requires_grad=True) if is_done else told(model, batch)
        loss.backward()
        optimizer.step()
        monitor.step(loss)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (without_backward, "written to no weight"),
        (done_at_once, "written to no weight since loss"),
        (never, "has not stepped once"),
        (once, "at least 12 backward passes"),
        (on_purpose, ""),
        (each, ""),
        (by_hand, ""),
        (anew, "another one moves them"),
    ],
)
def test_steps_that_are_missing_are_told_from_those_that_are_meant(loop, words):
    monitor = watched(loop)
    found = [finding for finding in monitor.findings if finding.code == "FL406"]
    assert [finding.outcome for finding in found] == (["issue"] if words else [])
    does = "make the optimizer once" if loop is anew else "optimizer.step()"
    assert all(words in finding.why and does in finding.advice for finding in found)


def test_without_an_optimizer_nothing_is_said():
    model = mlp(depth=2)
    with Monitor(model) as monitor:
        monitor.step(1.0)
    assert monitor.evidence.loop is None


@pytest.mark.parametrize(("at", "count"), [(36, 36), (0, 0), (None, 0)])
def test_a_model_that_stays_in_evaluation_mode(at, count):
    model = nn.Sequential(mlp(depth=2), nn.Dropout(0.1))
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        for step, (inputs, target) in enumerate(task(12) * 6):
            if step == at:
                model.eval()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            monitor.step(loss)
    facts = monitor.evidence.loop
    assert facts.evaluated == (72 - at if count else 0)
    assert facts.silent == (("1",) if at is not None else ())
    assert ("FL604" in [one.code for one in monitor.findings]) is (count > 0)


@pytest.mark.parametrize(("follows", "steps", "is_told"), [(False, 240, True), (True, 240, False), (False, 60, False)])
def test_a_copy_that_never_follows(follows, steps, is_told):
    models = nn.ModuleDict({"online": mlp(depth=1), "target": mlp(depth=1).requires_grad_(False)})
    optimizer = sgd(models)
    with Monitor(models, optimizer) as monitor:
        for step, (inputs, target) in enumerate(task(12) * (steps // 12)):
            optimizer.zero_grad()
            wanted = models["target"](inputs).softmax(1)
            loss = told(models["online"], (inputs, target)) + (models["online"](inputs).softmax(1) - wanted).norm()
            loss.backward()
            optimizer.step()
            monitor.step(loss)
            if follows and step % 100 == 99:
                models["target"].load_state_dict(models["online"].state_dict())
    found = [one for one in monitor.findings if one.code == "FL520"]
    assert [one.layer for one in found] == (["target"] if is_told else [])
