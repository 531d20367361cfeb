"""Doors of what trains: fit, the monitor, checkup, heal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import BatchSampler, SequentialSampler

import frostline as fl
from exams.fuzz.public import networks
from exams.fuzz.public import scalars as s
from exams.fuzz.public.datasets import BATCHES, COLLATES, DATASETS, plain
from exams.fuzz.public.datasets import batches as usual_batches
from exams.fuzz.public.doors import ANYTHING, GENERATORS, TRAINED, Door, function
from exams.fuzz.public.networks import MODELS
from exams.fuzz.public.pools import Pool, UserFault, World, constants
from exams.fuzz.public.states import OUTSIDE, place
from exams.fuzz.public.tensors import EXAMPLES, batch
from exams.fuzz.public.trainers import CLIPS, FACTORIES, LOSSES, METRICS, NAMED_LOSSES, OPTIMIZERS, SCHEDULERS


@contextmanager
def _users() -> Generator[None]:
    """The caller's own lines, which may fail by themselves."""
    try:
        yield
    except Exception as error:
        if place(error) == OUTSIDE:
            raise UserFault("the caller's own lines") from error
        raise


LOOPED = MODELS.usual("mlp", "half").without("lazy", "lazy bn", "embedding")


def _loop(world: World, prepared: Any, values: dict[str, Any]) -> Any:
    model = values["model"]
    with fl.Monitor(**values) as monitor:
        for x_BD, y_B in usual_batches(12):
            with _users():
                loss = F.cross_entropy(model(x_BD), y_B)
                loss.backward()
                if values.get("optimizer") is not None:
                    values["optimizer"].step()
                    values["optimizer"].zero_grad()
            monitor.step(loss)
    return _looked_at(monitor)


def _looked_at(monitor: fl.Monitor) -> Any:
    return (
        monitor.records,
        monitor.overhead,
        monitor.samples,
        monitor.evidence,
        monitor.unseen,
        str(monitor.diagnosis),
        monitor.findings,
    )


def _step(world: World, monitor: fl.Monitor, values: dict[str, Any]) -> Any:
    with monitor:
        with _users():
            world.model(batch()).sum().backward()
        monitor.step(**values)
        monitor.step(**values)
    return _looked_at(monitor)


LOSS_VALUES = Pool(
    {"tensor": lambda _: torch.tensor(0.5), "number": lambda _: 0.5},
    {
        **constants(
            {
                "None": None,
                "text": "0.5",
                "nan": float("nan"),
                "infinite": float("inf"),
                "complex": 1j,
                "True": True,
                "list": [0.5],
                "huge": 10**400,
                "bytes": b"1",
                "dict": {"loss": 1.0},
            }
        ),
        "vector": lambda _: torch.ones(3),
        "one element": lambda _: torch.ones(1, 1),
        "nan tensor": lambda _: torch.tensor(float("nan")),
        "numpy": lambda _: np.float64(0.5),
        "integer tensor": lambda _: torch.tensor(3),
        "complex tensor": lambda _: torch.tensor(1j),
        "meta": lambda _: torch.ones((), device="meta"),
        "half": lambda _: torch.tensor(0.5).half(),
        "empty": lambda _: torch.ones(0),
        "of a graph": lambda _: torch.ones((), requires_grad=True) * 2,
        "sparse": lambda _: torch.ones(1).to_sparse(),
        "bool": lambda _: torch.tensor(True),
    },
)

LOGS = Pool(
    {"-": lambda _: None, "list": lambda _: lambda numbers, step: None},
    {**constants({"number": 3, "text": "log", "no arguments": lambda: None}), "raises": METRICS.odd["raises"]},
)


SCALERS = Pool(
    {"none": lambda _: None, "off": lambda _: torch.amp.GradScaler("cpu", enabled=False)},
    {
        **constants({"text": "scaler", "number": 2.0, "class": torch.amp.GradScaler, "True": True}),
        "on": lambda _: torch.amp.GradScaler("cpu"),
    },
)

STEPS = Pool(
    {"none": lambda _: None},
    {
        **constants({"text": "step", "number": 1}),
        "beside a loss": lambda _: lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    },
)

THAWS = Pool(
    constants({"epochs": {2: "0"}, "all": {2: None}, "list": [None]}),
    {
        **constants(
            {
                "plateau": "plateau",
                "unknown layer": {2: "layer3"},
                "unknown rule": "converged",
                "trainable": {2: "6"},
                "upwards": {2: "0", 3: "3"},
                "first epoch": {1: "0"},
                "late": {100: "0"},
                "empty": {},
                "no epochs": {"a": "0"},
                "half epochs": {1.5: "0"},
                "number": 3,
                "True": True,
                "layers of a list": ["3", 3],
                "nested": {2: {3: "0"}},
                "bytes": b"plateau",
            }
        ),
        "schedule": lambda _: fl.ThawSchedule({2: "0"}, factor=1, warmup=0),
        "kept": lambda _: fl.ThawSchedule({2: None}, keep_statistics=True),
        "the other schedule": lambda _: fl.FreezeSchedule({2: "0"}),
        "class": lambda _: fl.ThawSchedule,
    },
)
FREEZES = Pool(
    constants({"converged": "converged", "from epoch 2": {2: "0"}}),
    {
        **constants({"whole": {2: None}, "before it begins": {1: "0"}, "ends later": {100: "0"}, "upper": {2: "6"}}),
        "progressive": lambda _: fl.FreezeSchedule(rate=10.0),
        "thawing": lambda _: fl.ThawSchedule({2: "0"}),
    },
)
_SCHEDULES = {
    "ThawSchedule": {
        "at": THAWS,
        "layers": Pool(constants({"-": None, "names": ["3", "0"]}), constants({"text": "3", "none": [], "odd": [3]})),
        "every": s.COUNTS.optional(),
        "patience": s.COUNTS.optional(),
        "factor": s.RATES.optional(),
        "warmup": s.NUMBERS.optional(),
        "keep_statistics": s.FLAGS.usual("False", "True"),
    },
    "FreezeSchedule": {
        "at": FREEZES,
        "layers": Pool(constants({"-": None, "names": ["0", "3"]}), constants({"text": "3", "none": [], "odd": [3]})),
        "rate": s.RATES.optional(),
        "patience": s.COUNTS.optional(),
    },
}


class _Told:
    def on_train_epoch_end(self, run: Any) -> None:
        run.log({"epochs": len(run.history)})


class _Fails:
    def on_train_start(self, run: Any) -> None:
        raise UserFault("a callback that fails")


CALLBACKS = Pool(
    {"-": lambda _: (), "told": lambda _: [_Told()]},
    {
        **constants({"None": None, "text": "stop", "number": 3, "class": [_Told], "nothing": [object()], "odd": [3]}),
        "one": lambda _: _Told(),
        "fails": lambda _: [_Fails()],
        "function": lambda _: [print],
        "twice": lambda _: [_Told()] * 2,
    },
)


class _Logger:
    def log_metrics(self, figures: dict[str, float], step: int) -> None:
        pass


LOGGERS = Pool(
    {"-": lambda _: None, "own": lambda _: _Logger(), "two": lambda _: [_Logger(), _Logger()]},
    {
        **constants({"True": True, "unknown": "wandb", "number": 3, "class": _Logger, "list": [3], "empty": []}),
        "tensorboard": lambda _: "tensorboard",
        "function": lambda _: print,
    },
)

_FIT: dict[str, Pool] = {
    "model": MODELS,
    "train": DATASETS,
    "val": DATASETS.optional(),
    "loss": NAMED_LOSSES.optional(),
    "epochs": s.FEW,
    "batch_size": s.COUNTS,
    "lr": s.RATES.optional(),
    "optimizer": FACTORIES.optional(),
    "scheduler": SCHEDULERS.optional(),
    "clip": CLIPS.optional(),
    "freeze": Pool({"-": lambda _: None, **s.LAYERS.sane}, {**s.LAYERS.odd, **FREEZES.sane, **FREEZES.odd}),
    "thaw": THAWS.optional(),
    "cache": s.CACHES,
    "seed": s.SEEDS.optional(),
    "precision": s.PRECISIONS.optional(),
    "devices": Pool(constants({"-": 1, "1": 1}), s.FEW.odd),
    "resume": Pool(constants({"-": None}), s.PATHS),
    "out": s.OUTS,
    "progress": s.FLAGS.usual("False", "True"),
    "patience": s.FEW.optional(),
    "metric": METRICS.optional(),
    "monitor": Pool(
        constants({"-": True, "False": False}),
        constants({"heal": "heal", "text": "on", "None": None, "number": 3, "list": []}),
    ),
    "example": EXAMPLES.optional(),
    "num_workers": s.NO_WORKERS,
    "overwrite": s.FLAGS.usual("False", "True"),
    "collate_fn": COLLATES,
    "frozen_pass": s.PASSES,
    "init_head": Pool(constants({"-": None, "probe": "probe"}), s.LAYERS.odd),
    "views": s.VIEWS,
    "accumulation": s.COUNTS.optional(),
    "warmup": s.NUMBERS.optional(),
    "ema": s.NUMBERS.optional(),
    "callbacks": CALLBACKS,
    "logger": LOGGERS,
    "label_smoothing": s.NUMBERS.optional(),
    "class_weights": Pool(
        constants({"-": None, "balanced": "balanced", "three": [1.0, 2.0, 0.5]}),
        {
            **constants({"two": [1.0, 2.0], "minus": [1.0, -1.0, 1.0], "none": [], "text": "even", "number": 2.0}),
            **constants({"nan": [float("nan")] * 3, "texts": ["a", "b", "c"], "nested": [[1.0], [1.0], [1.0]]}),
            "tensor": lambda _: torch.ones(3),
            "matrix": lambda _: torch.ones(3, 1),
            "scalar": lambda _: torch.tensor(2.0),
            "complex": lambda _: torch.ones(3) * 1j,
        },
    ),
    "scheduler_interval": Pool(
        constants({"-": "epoch", "step": "step"}),
        constants({"unknown": "batch", "None": None, "number": 1, "empty": ""}),
    ),
    "storage": s.STORAGES,
    "by_length": s.FLAGS.optional(),
    "sampler": Pool(
        {"-": lambda _: None, "all": lambda _: SequentialSampler(plain()), "some": lambda _: [0, 3, 3, 1]},
        {
            **constants(
                {"text": "random", "number": 3, "empty": [], "beyond": [0, 10**6], "texts": ["a"], "nan": [0.5]}
            ),
            "batches": lambda _: BatchSampler(SequentialSampler(plain()), 4, False),
            "class": lambda _: SequentialSampler,
            "iterator": lambda _: iter([0, 1]),
        },
    ),
}
CANDIDATES = Pool(
    constants({"-": None, "first": ["0"]}),
    constants({"text": "0", "empty": [], "unknown": ["layer3"], "number": 3, "numbers": [0], "twice": ["0", "0"]}),
)
_DEPTH: dict[str, Pool] = {
    "train": DATASETS,
    "samples": Pool(constants({"-": 2000, "20": 20}), s.COUNTS.odd),
    "cache": s.OUTS.usual("new"),
    "epochs": s.FEW.optional(),
    "batch_size": s.COUNTS.optional(),
    "num_workers": s.NO_WORKERS,
    "seed": s.SEEDS.optional(),
    "progress": s.FLAGS.usual("False"),
}
_MADE = {"views": s.VIEWS, "collate_fn": COLLATES, "storage": s.STORAGES, "frozen_pass": s.PASSES}
MODEL_LISTS = Pool(
    {"two": lambda _: [networks.mlp(), networks.mlp()], "named": lambda _: {"a": networks.mlp(), "b": networks.mlp()}},
    {
        **constants({"None": None, "text": "mlp", "number": 3, "empty": [], "numbers": [1, 2], "texts": ["a", "b"]}),
        "one": lambda _: [networks.mlp()],
        "a model": lambda _: networks.mlp(),
        "same": lambda _: [networks.mlp()] * 2,
        "classes": lambda _: [networks.Own, networks.Own],
    },
)
DOORS: list[Door] = [
    function("choose_depth", fl.choose_depth, {"model": MODELS, "candidates": CANDIDATES, **_DEPTH, **_MADE}, cost=5),
    function("rank_models", fl.rank_models, {"models": MODEL_LISTS, **_DEPTH, **_MADE}, cost=10),
    *(function(name, getattr(fl, name), pools) for name, pools in _SCHEDULES.items()),
    function("fit", fl.fit, _FIT, on_success=TRAINED, also={"freeze": ANYTHING}, on_error=TRAINED, cost=3),
    Door(
        "Monitor",
        fl.Monitor.__init__,
        {
            "model": LOOPED,
            "optimizer": OPTIMIZERS,
            "every": s.COUNTS,
            "budget": s.NUMBERS.optional(),
            "path": Pool({"-": lambda _: None, "new": lambda w: w.folder / "a.jsonl"}, s.PATHS),
            "log": LOGS,
        },
        _loop,
        on_success=TRAINED,
        on_error=TRAINED,
        moves=GENERATORS,
        owner="doctor",
    ),
    Door(
        "Monitor.step",
        fl.Monitor.step,
        {"model": LOOPED, "loss": LOSS_VALUES},
        _step,
        lambda world: fl.Monitor(world.model),
        on_success=TRAINED,
        on_error=TRAINED,
        moves=GENERATORS,
        owner="doctor",
    ),
    function(
        "checkup",
        fl.checkup,
        {
            "model": MODELS.usual("mlp", "half"),
            "batches": BATCHES,
            "loss_fn": LOSSES,
            "step": STEPS,
            "optimizer": OPTIMIZERS.optional(),
            "steps": s.COUNTS.optional(),
            "epochs": s.COUNTS.optional(),
            "accumulation": s.COUNTS.optional(),
            "warmup": s.NUMBERS.optional(),
            "scheduler_interval": Pool(
                constants({"-": "epoch", "step": "step"}),
                constants({"unknown": "batch", "None": None, "number": 1, "empty": ""}),
            ),
            "scaler": SCALERS.optional(),
            "budget": s.NUMBERS.optional(),
            "progress": s.FLAGS,
        },
        cost=10,
        owner="doctor",
    ),
    function(
        "heal",
        fl.heal,
        {"model": MODELS.usual("mlp", "half"), "batches": BATCHES, "loss_fn": LOSSES, "optimizer": OPTIMIZERS},
        cost=10,
        on_success=ANYTHING,
        owner="doctor",
    ),
]
