"""Networks with factors that start at zero on purpose are healthy; those that cannot leave zero are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from helpers_health import codes, sick_sigmoids, task

WIDTH, FEATURES, CLASSES, DEPTH = 32, 12, 3, 4


def zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias) if layer.bias is not None else None
    return layer


def lecun(inputs: int, outputs: int) -> nn.Linear:
    """A layer that keeps the scale of the signal, as a pretrained one does."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class LoRA(nn.Module):
    """Hu et al. 2021, LoRA, section 4.1: A is drawn, B is zero, the layer itself is frozen."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, 4, bias=False)
        self.lora_B = zeroed(nn.Linear(4, base.out_features, bias=False))

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


class Adapter(nn.Module):
    """Houlsby et al. 2019: a bottleneck whose last layer is zero."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.act, self.up = nn.Linear(base.out_features, 4), nn.GELU(), zeroed(nn.Linear(4, WIDTH))

    def forward(self, x):
        hidden = self.base(x)
        return hidden + self.up(self.act(self.down(hidden)))


class Branch(nn.Module):
    """x + scale * f(x): ReZero and its kin, LayerScale, the last norm of a branch, a zero last layer (Fixup)."""

    def __init__(self, kind: str):
        super().__init__()
        self.first, self.act, self.last = lecun(WIDTH, WIDTH), nn.ReLU(), lecun(WIDTH, WIDTH)
        self.kind = kind
        if kind == "norm":
            self.norm = nn.BatchNorm1d(WIDTH)
            nn.init.zeros_(self.norm.weight)
        elif kind == "zero layer":
            zeroed(self.last)
        else:
            self.scale = nn.Parameter(torch.full((WIDTH,), 1e-6) if kind == "LayerScale" else torch.zeros(1))

    def forward(self, x):
        hidden = self.last(self.act(self.first(x)))
        if self.kind == "norm":
            return x + self.norm(hidden)
        if self.kind == "zero layer":
            return x + hidden
        return x + hidden * (self.scale.tanh() if self.kind == "tanh gate" else self.scale)


class AdaLNZero(nn.Module):
    """Peebles, Xie 2022, Scalable diffusion models with transformers, section 3.2."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.first, self.act, self.last = lecun(WIDTH, WIDTH), nn.SiLU(), lecun(WIDTH, WIDTH)
        self.modulation = zeroed(nn.Linear(WIDTH, 3 * WIDTH))

    def forward(self, x):
        scale, shift, gate = self.modulation(F.silu(x)).chunk(3, dim=-1)
        return x + gate * self.last(self.act(self.first(self.norm(x) * (1 + scale) + shift)))


class ControlNet(nn.Module):
    """Zhang et al. 2023, Adding conditional control, section 3.1: a trainable copy between zero layers."""

    def __init__(self):
        super().__init__()
        self.base = nn.ModuleList([lecun(FEATURES, WIDTH), lecun(WIDTH, WIDTH)]).requires_grad_(False)
        self.copy = nn.ModuleList([lecun(FEATURES, WIDTH), lecun(WIDTH, WIDTH)])
        self.entry, self.exits = zeroed(nn.Linear(FEATURES, FEATURES)), nn.ModuleList()
        self.exits.extend(zeroed(nn.Linear(WIDTH, WIDTH)) for _ in range(2))
        self.head = lecun(WIDTH, CLASSES).requires_grad_(False)

    def forward(self, x):
        control, hidden = x + self.entry(x), x
        for base, copy, leave in zip(self.base, self.copy, self.exits, strict=True):
            control = copy(control).relu()
            hidden = (base(hidden) + leave(control)).relu()
        return self.head(hidden)


def chain(wrap, *, head: nn.Module | None = None) -> nn.Sequential:
    layers = [FEATURES, *[WIDTH] * DEPTH]
    hidden = [part for at in range(DEPTH) for part in (wrap(lecun(*layers[at : at + 2])), nn.ReLU())]
    return nn.Sequential(*hidden, head or nn.Linear(WIDTH, CLASSES))


def residual(kind: str) -> nn.Sequential:
    """A frozen stem: the first layer that trains is in a branch."""
    stem = lecun(FEATURES, WIDTH).requires_grad_(False)
    return nn.Sequential(stem, *(Branch(kind) for _ in range(DEPTH)), nn.Linear(WIDTH, CLASSES))


NETWORKS = {
    "LoRA": lambda: chain(LoRA),
    "LoRA in every layer": lambda: chain(LoRA, head=LoRA(lecun(WIDTH, CLASSES))),
    "adapters": lambda: nn.Sequential(
        *chain(lambda layer: layer.requires_grad_(False))[:-1],
        *(Adapter(lecun(WIDTH, WIDTH)) for _ in range(3)), nn.Linear(WIDTH, CLASSES)),
    **{kind: lambda kind=kind: residual(kind) for kind in ("ReZero", "tanh gate", "LayerScale", "norm", "zero layer")},
    "adaLN-zero": lambda: nn.Sequential(
        lecun(FEATURES, WIDTH), *(AdaLNZero() for _ in range(DEPTH)), zeroed(nn.Linear(WIDTH, CLASSES))),
    "ControlNet": ControlNet,
    "zero head": lambda: chain(lambda layer: layer, head=zeroed(nn.Linear(WIDTH, CLASSES))),
}  # fmt: skip
# Rules that zero factors set off: vanishing, exploding, dead, symmetric, badly scaled, and steps that look too large.
ABOUT_ZEROS = {"FL101", "FL102", "FL201", "FL301", "FL302", "FL401", "FL405"}


def made(name: str) -> nn.Module:
    torch.manual_seed(1)
    return NETWORKS[name]()


def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)


def watched(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, every: int = 10) -> fl.Monitor:
    with fl.Monitor(model, optimizer, every=every, budget=1e9) as monitor:
        for inputs, target in task(steps):
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
    return monitor


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("lr", [1e-3, 1e-5])
@pytest.mark.parametrize("steps", [1, 3, 60])
def test_the_monitor_finds_nothing_in_factors_that_start_at_zero(name, lr, steps):
    model = made(name)
    assert codes(watched(model, adam(model, lr), steps)) & ABOUT_ZEROS == set()


@pytest.mark.parametrize("name", NETWORKS)
def test_sgd_moves_them_as_well(name):
    model = made(name)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    assert codes(watched(model, optimizer, 60)) & (ABOUT_ZEROS - {"FL401"}) == set()


@pytest.mark.parametrize("name", NETWORKS)
def test_checkup_names_no_cause_in_them(name):
    model = made(name)
    diagnosis = fl.checkup(model, task(30), F.cross_entropy, adam(model, 1e-3))
    assert diagnosis.cause is None
    assert codes(diagnosis, "issue") & ABOUT_ZEROS == set()


@pytest.mark.parametrize("name", ["LoRA", "LayerScale", "adaLN-zero", "ControlNet"])
def test_heal_draws_none_of_them_anew(name):
    model = made(name)
    healing = fl.heal(model, task(60), F.cross_entropy, adam(model, 1e-3))
    assert not [treatment.name for treatment in healing.treatments if "weights" in treatment.name]


def test_two_zero_factors_in_a_row_never_move_and_are_told():
    model = made("LoRA in every layer")
    for module in model.modules():
        if isinstance(module, LoRA):
            zeroed(module.lora_A)
    assert "FL301" in codes(watched(model, adam(model, 1e-3), 60), "issue")


def test_what_vanishes_behind_a_zero_head_is_still_seen():
    model = sick_sigmoids(10)
    zeroed(model[-1])
    assert "FL101" in codes(watched(model, adam(model, 1e-3), 60), "issue")
