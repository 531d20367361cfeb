"""Numbers, texts, names and paths, as people pass them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import frostline as fl
from exams.fuzz.public.networks import mlp
from exams.fuzz.public.pools import Make, Pool, World, constants

_NO_NUMBERS: dict[str, Any] = {
    "None": None,
    "text": "3",
    "bytes": b"3",
    "list": [3],
    "nan": float("nan"),
    "infinite": float("inf"),
    "complex": 1j,
    "dict": {},
    "tuple": (1, 2),
}


def _number(sane: dict[str, Any], odd: dict[str, Any]) -> Pool:
    made: dict[str, Make] = {
        "tensor": lambda _: torch.tensor(2),
        "two tensors": lambda _: torch.tensor([1, 2]),
        "numpy": lambda _: np.int64(2),
        "numpy float": lambda _: np.float32(0.5),
    }
    return Pool(constants(sane), {**constants({**_NO_NUMBERS, **odd}), **made})


COUNTS = _number(
    {"3": 3, "8": 8},
    {"0": 0, "1": 1, "minus": -1, "half": 2.5, "whole float": 2.0, "True": True, "False": False, "huge": 2**40},
)
STORAGES = Pool(
    constants({"-": "exact", "float16": "float16", "bfloat16": "bfloat16", "int8": "int8"}),
    constants({"unknown": "int4", "None": None, "dtype": torch.float16, "number": 8}),
)
VIEWS = Pool(constants({"-": None, "2": 2}), COUNTS.odd)
PASSES = Pool(
    constants({"-": None, "fold": "fold", "bf16 and fold": ["bf16", "fold"]}),
    constants({"text": "fast", "empty": [], "number": 3, "numbers": [1], "True": True, "twice": ["fold", "fold"]}),
)
FEW = _number({"2": 2, "1": 1}, {"0": 0, "minus": -1, "half": 1.5, "True": True, "False": False})
SEEDS = _number({"0": 0, "7": 7}, {"minus": -1, "half": 0.5, "True": True, "huge": 2**70, "64 bits": 2**63})
SHARES = _number({"0.2": 0.2, "0.5": 0.5}, {"0": 0, "1": 1, "minus": -0.5, "above": 1.5, "tiny": 1e-9, "True": True})
RATES = _number({"0.01": 0.01, "0.001": 0.001}, {"0": 0, "minus": -0.1, "huge": 1e30, "True": True, "whole": 1})
NUMBERS = _number({"1.0": 1.0, "2.5": 2.5}, {"0": 0, "minus": -1.0, "huge": 1e300, "tiny": 1e-300, "True": True})
INDICES = _number(
    {"0": 0, "3": 3, "last": -1},
    {"beyond": 10**6, "below": -(10**6), "half": 0.5, "True": True, "slice": slice(0, 2), "huge": 2**70},
)

FLAGS = Pool(
    constants({"True": True, "False": False}),
    constants({"None": None, "text": "yes", "1": 1, "list": [], "nan": float("nan"), "bytes": b""}),
)

_NO_TEXTS: dict[str, Any] = {
    "None": None,
    "number": 3,
    "bytes": b"3",
    "empty": "",
    "list": ["3"],
    "blank": " ",
    "huge": "x" * 5000,
    "zero byte": "a\0b",
    "dots": "..",
    "class": str,
    "True": True,
}

LAYERS = Pool(
    constants({"3": "3", "0": "0"}),
    constants(
        {
            **_NO_TEXTS,
            "unknown": "layer3",
            "last": "6",
            "beyond": "7",
            "dotted": "3.weight",
            "parameter": "weight",
            "glob": "*",
            "trailing": "3.",
            "leading": ".3",
            "int": 3,
            "minus": "-1",
        }
    ),
)

NAMES = Pool(
    constants({"one": ["0"], "two": ["0", "3"], "glob": ["*"]}),
    {
        **constants(
            {
                **_NO_TEXTS,
                "empty list": [],
                "text": "0",
                "unknown": ["nope"],
                "of None": [None],
                "of int": [0],
                "of empty": [""],
                "bad glob": ["[", "**"],
                "weight": ["0.weight"],
                "of bytes": [b"0"],
                "dict": {"0": 1},
            }
        ),
        "generator": lambda _: (name for name in ["0"]),
        "set": lambda _: {"0"},
    },
)


def _first_module(world: World) -> Any:
    modules = list(world.model.modules()) if isinstance(world.model, nn.Module) else [mlp()]
    return modules[1] if len(modules) > 1 else modules[0]


MODULE_LISTS = Pool(
    {"first": lambda w: [_first_module(w)]},
    {
        **constants({**_NO_TEXTS, "empty list": [], "of None": [None], "of text": ["0"]}),
        "one module": _first_module,
        "foreign": lambda _: [nn.Linear(2, 2)],
        "generator": lambda w: (module for module in [_first_module(w)]),
        "the model": lambda w: [w.model],
        "of parameters": lambda w: list(_first_module(w).parameters()),
    },
)

PARAMETER_LISTS = Pool(
    {"first": lambda w: list(_first_module(w).parameters())},
    {
        **constants({**_NO_TEXTS, "empty list": [], "of None": [None], "of text": ["0.weight"]}),
        "named": lambda w: list(_first_module(w).named_parameters()),
        "one": lambda w: next(_first_module(w).parameters(), None),
        "foreign": lambda _: [nn.Parameter(torch.zeros(2))],
        "generator": lambda w: w.model.parameters() if isinstance(w.model, nn.Module) else iter(()),
        "of tensors": lambda _: [torch.zeros(2)],
        "of modules": lambda w: [_first_module(w)],
    },
)


def _file(world: World) -> Path:
    path = world.folder / "file.txt"
    path.write_text("not a folder")
    return path


def _filled(world: World) -> Path:
    folder = world.folder / "filled"
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("somebody's")
    return folder


def _loop(world: World) -> Path:
    path = world.folder / "loop"
    path.symlink_to(path)
    return path


PATHS: dict[str, Make] = {
    **constants(
        {
            "None": None,
            "number": 3,
            "bytes": b"out",
            "list": [],
            "empty": "",
            "zero byte": "a\0b",
            "class": Path,
            "nan": float("nan"),
        }
    ),
    "missing": lambda w: w.folder / "no" / "such" / "folder",
    "a file": _file,
    "below a file": lambda w: _file(w) / "below",
    "filled": _filled,
    "loop": _loop,
    "long": lambda w: w.folder / ("x" * 300),
    "text": lambda w: str(w.folder / "text"),
    "odd name": lambda w: w.folder / "ü [x] *",
    "device": lambda _: "/dev/null",
}

FOLDERS = Pool({"new": lambda w: w.folder / "new"}, {k: v for k, v in PATHS.items() if k != "None"}).usual(
    "new", "text"
)
# Processes are slow to start: none is the usual, and every other value is odd.
NO_WORKERS = Pool(constants({"-": 0, "0": 0}), constants({"minus": -1, "None": None, "text": "2", "half": 0.5}))
OUTS = Pool({"new": lambda w: w.folder / "new"}, PATHS).optional()

DEVICES = Pool(
    constants({"cpu": "cpu"}),
    constants(
        {
            "meta": "meta",
            "cuda": "cuda",
            "unknown": "gpu",
            "number": 0,
            "empty": "",
            "bytes": b"cpu",
            "far": "cuda:99",
            "list": ["cpu"],
            "minus": -1,
        }
    ),
).optional()

ACTIVATIONS = Pool(
    {**constants({"elu": "elu", "class": nn.LeakyReLU, "tanh": nn.Tanh}), "instance": lambda _: nn.ELU(0.5)},
    {
        **constants(
            {
                **_NO_TEXTS,
                "unknown": "reluu",
                "module class": nn.Linear,
                "other class": int,
                "capital": "ReLU",
                "function": torch.relu,
                "base": nn.Module,
            }
        ),
        "layer": lambda _: nn.Linear(8, 8),
        "factory": lambda _: lambda: nn.ELU(),
        "factory of None": lambda _: lambda: None,
        "factory of one": lambda _: lambda n: nn.ELU(n),
        "prelu": lambda _: nn.PReLU(8),
        "softmax": lambda _: nn.Softmax(1),
        "hooked": lambda _: _hooked_elu(),
    },
)


def _hooked_elu() -> nn.Module:
    found = nn.ELU()
    found.register_forward_hook(lambda module, args, out: out)
    return found


OLD_ACTIVATIONS = Pool(
    constants({"relu": "relu", "class": nn.ReLU}),
    {**constants({"absent": "gelu", "absent class": nn.SiLU}), **ACTIVATIONS.odd},
)

CACHES = Pool(
    {
        "folder": lambda w: w.folder / "features",
        "False": lambda _: False,
        "auto": lambda _: "auto",
        "FeatureCache": lambda w: fl.FeatureCache(w.folder / "features"),
    },
    {**PATHS, "1": lambda _: 1},
)

PRECISIONS = Pool(
    constants({"32-true": "32-true", "bf16-mixed": "bf16-mixed"}),
    constants(
        {
            **_NO_TEXTS,
            "64-true": "64-true",
            "bf16-true": "bf16-true",
            "16-true": "16-true",
            "16-mixed": "16-mixed",
            "32": 32,
            "text 32": "32",
            "unknown": "fp8",
        }
    ),
)
