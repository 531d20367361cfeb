"""Doors of `split` and of what it gives."""

from __future__ import annotations

from typing import Any

import torch

import frostline as fl
from exams.fuzz.public.doors import GENERATORS, Door, function, method
from exams.fuzz.public.networks import MODELS
from exams.fuzz.public.pools import Pool, World, constants
from exams.fuzz.public.scalars import COUNTS, FLAGS, RATES
from exams.fuzz.public.tensors import EXAMPLES, OTHERS, TENSORS, batch
from exams.fuzz.public.trainers import LOSSES

SPLITTABLE = MODELS.usual("half", "wrapped", "own")
ANY = {**TENSORS, **OTHERS}


def _split(world: World) -> fl.Split:
    return fl.split(world.model, batch())


FEATURES = Pool(
    {"-": lambda _: None},
    {
        "extracted": lambda w: fl.split(w.model, batch()).extract(batch()),
        "zeros": lambda _: (torch.zeros(4, 8),),
        "too many": lambda _: (torch.zeros(4, 8),) * 3,
        **ANY,
    },
)
MODES = Pool(
    constants({"-": None, "eval": ("eval",)}),
    constants({"empty": (), "text": "eval", "unknown": ("test",), "number": 3, "None": None, "list": ["train"]}),
)
PLANS = Pool(
    {"of it": lambda w: fl.split(w.model, batch()).plan(100), "no room": lambda w: fl.split(w.model, batch()).plan(
        100, budget_bytes=0)},
    {"an explanation": lambda w: fl.split(w.model, batch()).explain(), **ANY},
)  # fmt: skip


def _head(world: World, split: Any, values: dict[str, Any]) -> Any:
    features = world.values["features"]
    return split.head(*features) if isinstance(features, (tuple, list)) else split.head(features)


DOORS: list[Door] = [
    function("split", fl.split, {"model": SPLITTABLE, "example": EXAMPLES}, owner="splitting", cost=2),
    method(
        "Split.extract", fl.Split.extract, {"model": SPLITTABLE, "inputs": EXAMPLES}, _split, owner="splitting", cost=2
    ),
    method(
        "Split.verify",
        fl.Split.verify,
        {"model": SPLITTABLE, "inputs": EXAMPLES, "features": FEATURES, "modes": MODES},
        _split,
        owner="splitting",
        cost=2,
    ),
    method(
        "Split.plan",
        fl.Split.plan,
        {
            "model": SPLITTABLE,
            "samples": COUNTS,
            "epochs": COUNTS,
            "batch_size": COUNTS,
            "budget_bytes": COUNTS,
            "read_s": RATES,
            "missing": COUNTS,
            "step_s": RATES,
        },
        _split,
        owner="splitting",
        cost=2,
    ),
    method(
        "Split.follow",
        fl.Split.follow,
        {"model": SPLITTABLE, "plan": PLANS},
        _split,
        owner="splitting",
        cost=2,
    ),
    method("Split.explain", fl.Split.explain, {"model": SPLITTABLE}, _split, owner="splitting", cost=2),
    method(
        "Split.prove",
        fl.Split.prove,
        {"model": SPLITTABLE, "inputs": EXAMPLES, "features": FEATURES.usual("extracted").without("-")},
        _split,
        owner="splitting",
        cost=3,
    ),
    method(
        "Split.prove_size",
        fl.Split.prove_size,
        {"model": SPLITTABLE, "batch_size": COUNTS.without("huge")},
        _split,
        owner="splitting",
        cost=3,
    ),
    method("Split.check_unchanged", fl.Split.check_unchanged, {"model": SPLITTABLE}, _split, owner="splitting", cost=2),
    method("Split.check_weights", fl.Split.check_weights, {"model": SPLITTABLE}, _split, owner="splitting", cost=2),
    method(
        "Split.check_loss",
        fl.Split.check_loss,
        {"model": SPLITTABLE, "function": LOSSES, "inputs": EXAMPLES, "targets": EXAMPLES, "training": FLAGS},
        _split,
        owner="splitting",
        cost=2,
    ),
    Door(
        "Split.head",
        lambda features: None,
        {"model": SPLITTABLE, "features": FEATURES.usual("extracted").without("-")},
        _head,
        _split,
        owner="splitting",
        cost=2,
        moves=GENERATORS,
        on_success=frozenset({"buffer"}),
        on_error=frozenset({"buffer"}),
    ),
]
