"""The door of sweeps: heads, stored rows and settings in every state."""

from __future__ import annotations

import torch
from torch import nn

import frostline as fl
from exams.fuzz.public import scalars as s
from exams.fuzz.public.datasets import CLASSES, COLLATES, DATASETS, X, plain
from exams.fuzz.public.doors import ANYTHING, Door, function
from exams.fuzz.public.networks import MODELS
from exams.fuzz.public.pools import Pool, World, constants
from exams.fuzz.public.tensors import batch
from exams.fuzz.public.trainers import METRICS, NAMED_LOSSES


def _split(world: World) -> fl.Split:
    if "split" not in world.values:
        world.values["split"] = fl.split(world.model, batch())
    return world.values["split"]


def _rows(world: World, targets: torch.Tensor = CLASSES) -> fl.CachedDataset:
    data = torch.utils.data.TensorDataset(X, targets)
    return fl.FeatureCache(world.folder / "rows").fill(_split(world), data, progress=False)


HEADS = Pool(
    {"of the model": lambda w: _split(w).head},
    {
        **constants({"None": None, "text": "head", "class": nn.Linear, "dict": {}}),
        "linear": lambda _: nn.Sequential(nn.Linear(8, 2)),
        "single": lambda _: nn.Linear(8, 2),
        "other width": lambda _: nn.Linear(5, 2),
        "frozen": lambda _: nn.Linear(8, 2).requires_grad_(False),
        "lazy": lambda _: nn.LazyLinear(2),
        "meta": lambda _: nn.Linear(8, 2, device="meta"),
        "no parameters": lambda _: nn.ReLU(),
        "double": lambda _: nn.Linear(8, 2).double(),
        "three classes": lambda _: nn.Linear(8, 3),
        "one output": lambda _: nn.Linear(8, 1),
        "softmax": lambda _: nn.Sequential(nn.Linear(8, 2), nn.Softmax(1)),
        "norm": lambda _: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)),
        "whole model": lambda w: w.model,
        "split": _split,
        "nan": lambda _: _nan(nn.Linear(8, 2)),
    },
)


def _nan(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    return layer


ROWS = Pool(
    {"cached": _rows},
    {
        "numbers": lambda w: _rows(w, CLASSES.float()),
        "not finite": lambda w: _rows(w, CLASSES.float() / 0),
        "one class": lambda w: _rows(w, CLASSES * 0),
        "no labels": lambda w: _rows(w, CLASSES * 0 - 100),
        "pairs": lambda w: _rows(w, CLASSES[:, None].float().expand(-1, 2)),
        "one row": lambda w: _rows(w).part([0]),
        "two rows": lambda w: _rows(w).part([0, 1]),
        "loader": lambda w: _rows(w).loader(4),
        "plain": lambda _: plain(),
        **{label: make for label, make in DATASETS.odd.items() if label in ("None", "text", "list", "empty", "number")},
    },
)
SETTINGS = Pool(
    constants({"two": [{"lr": 0.01}, {"lr": 0.1, "optimizer": "sgd"}], "grid": {"lr": [0.01, 0.1], "dropout": [0.2]}}),
    constants(
        {
            "None": None,
            "empty": [],
            "empty grid": {},
            "one empty": [{}],
            "text": "lr",
            "number": 3,
            "of texts": ["lr"],
            "unknown": [{"learning_rate": 0.1}],
            "number as name": [{3: 0.1}],
            "no rate": [{"lr": 0}],
            "nan": [{"lr": float("nan")}],
            "huge rate": [{"lr": 1e38, "optimizer": "sgd"}],
            "huge rates": [{"lr": 1e38, "optimizer": "sgd"}, {"lr": 3e38, "optimizer": "sgd"}],
            "unknown optimizer": [{"optimizer": "lion"}],
            "class": [{"optimizer": torch.optim.SGD}],
            "no optimizer": [{"optimizer": lambda _: None}],
            "width": [{"width": 4}, {"width": 0}, {"width": 4, "dropout": 0.5}],
            "minus width": [{"width": -4}],
            "all noise": [{"dropout": 1.0}],
            "tensor": [{"lr": torch.tensor(0.1)}],
            "list in a list": [{"lr": [0.1]}],
            "None as value": [{"lr": None, "width": None}],
            "seeds": {"seed": [1, 2, 3]},
            "huge seed": [{"seed": 2**70}],
            "decay": [{"weight_decay": -1}],
            "probe": [{"optimizer": "probe"}, {}],
        }
    ),
)

DOORS: list[Door] = [
    function(
        "sweep",
        fl.sweep,
        {
            "model": MODELS.usual("half").without(*[label for label in (*MODELS.sane, *MODELS.odd) if label != "half"]),
            "head": HEADS,
            "data": ROWS,
            "settings": SETTINGS,
            "val": Pool({"-": lambda _: None, "the same": _rows}, ROWS.odd),
            "val_share": s.SHARES.optional(),
            "loss": NAMED_LOSSES.optional(),
            "metric": METRICS.optional(),
            "epochs": s.FEW,
            "batch_size": s.COUNTS.optional(),
            "seed": s.SEEDS.optional(),
            "halving": Pool({"-": lambda _: None, "2": lambda _: 2}, s.FEW.odd),
            "apply": s.FLAGS.optional(),
            "progress": s.FLAGS.usual("False", "True"),
            "cache": s.CACHES,
            "num_workers": s.NO_WORKERS,
            "views": s.VIEWS,
            "collate_fn": COLLATES,
            "storage": s.STORAGES,
            "frozen_pass": s.PASSES,
        },
        on_success=ANYTHING,
        cost=5,
    ),
]
