"""Evidence made by hand, small tasks, and a plain training loop for the monitor to listen to."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from frostline import Monitor
from frostline.diagnosis import all_of
from frostline.diagnosis.rules.records import Evidence, Layer, LayerSample, StepRecord


def chain(depth: int = 5, kind: str = "linear", **options) -> tuple[Layer, ...]:
    """Layers `fc0`, `fc1`, ... of one kind, the last of them the output."""
    return tuple(
        Layer(f"fc{at}", kind, "", at, options.get("is_frozen", False), at == depth - 1) for at in range(depth)
    )


def activations(*names: str) -> tuple[Layer, ...]:
    return tuple(Layer(f"act{at}", "activation", name, at, False, False) for at, name in enumerate(names))


def record(step: int = 0, norm: float | None = 1.0, loss: float | None = None, **numbers) -> StepRecord:
    """A record of layers that are given by name: `fc0={"deviation": 1.0}`."""
    samples = tuple(LayerSample(name, **fields) for name, fields in numbers.items())
    return StepRecord(step, loss, norm, samples)


def records(count: int = 6, **numbers) -> tuple[StepRecord, ...]:
    """The same numbers at every sampled step."""
    return tuple(record(10 * at, **numbers) for at in range(count))


def by_layer(field: str, *values: float | None) -> dict[str, dict[str, float]]:
    """`fc0` has the first value, `fc1` the second, ..."""
    return {f"fc{at}": {field: value} for at, value in enumerate(values) if value is not None}


def losses(*values: float) -> tuple[tuple[int, float], ...]:
    return tuple(enumerate(values))


def falling(count: int = 40) -> tuple[tuple[int, float], ...]:
    return losses(*(2.0 * 0.95**at for at in range(count)))


_QUIET = {"passed", "not applicable", "not judged"}


def outcomes(rule, evidence: Evidence) -> list[str]:
    """What a rule answers; all of its findings carry its own code, and a reason."""
    found = rule.check(evidence)
    assert found
    assert all(finding.code == rule.ABOUT.code and finding.why.strip() for finding in found)
    assert all((finding.advice == "nothing.") == (finding.outcome in _QUIET) for finding in found)
    return [finding.outcome for finding in found]


# --- Networks and a loop

FEATURES, CLASSES = 12, 3


def task(batches: int = 40, size: int = 16, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Blobs that a line can part, almost."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2.0 * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(7))
    found = []
    for _ in range(batches):
        target = torch.randint(CLASSES, (size,), generator=generator)
        found.append((centres[target] / 2 + torch.randn(size, FEATURES, generator=generator), target))
    return found


def mlp(depth: int = 3, width: int = 16, activation=nn.ReLU) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for at in range(depth):
        layers += [nn.Linear(FEATURES if at == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def normed(momentum: float = 0.1) -> nn.Sequential:
    """One hidden layer with BatchNorm."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(),
                         nn.Linear(16, CLASSES))  # fmt: skip


def sick_sigmoids(depth: int = 8) -> nn.Sequential:
    """Deep, with sigmoids at Glorot: its first layers get no gradient."""
    model = mlp(depth, activation=nn.Sigmoid)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def sgd(model: nn.Module, lr: float = 0.05, momentum: float = 0.9) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=momentum)


def run(model, optimizer, monitor=None, data=None, *, clears: bool = True, loss_fn=F.cross_entropy) -> None:
    """A loop as everybody writes it."""
    for inputs, target in data if data is not None else task():
        loss = loss_fn(model(inputs), target)
        loss.backward()
        optimizer.step()
        if clears:
            optimizer.zero_grad()
        if monitor is not None:
            monitor.step(loss)


def codes(monitor_or_diagnosis, outcome: str | None = None) -> set[str]:
    return {f.code for f in monitor_or_diagnosis.findings if outcome is None or f.outcome == outcome}


def watched(model, optimizer=None, data=None, *, every=2, loss_fn=F.cross_entropy, clears=True, **options):
    """A monitor that listened to a run, without a budget."""
    optimizer = optimizer or sgd(model)
    with Monitor(model, optimizer, every=every, budget=1e9, **options) as monitor:
        run(model, optimizer, monitor, data, loss_fn=loss_fn, clears=clears)
    return monitor


def outcome(monitor, code: str) -> set[str]:
    """What the rule of this code answers."""
    diagnosis = monitor.diagnosis
    return {finding.outcome for finding in all_of(diagnosis) if finding.code == code}


class SumOfInputs(nn.Module):
    """An `mlp` over the sum of two inputs."""

    def __init__(self):
        super().__init__()
        self.rest = mlp()

    def forward(self, a, b):
        return self.rest(a + b)
