"""Doors of the command line, in this process: exit code 0, or 1 with an error in four parts, or 2 for its usage."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from typer.testing import CliRunner

import frostline as fl
from exams.fuzz.public.caching_doors import ROOTS, TABLES
from exams.fuzz.public.data_doors import FILES, IMAGES
from exams.fuzz.public.datasets import CLASSES, X
from exams.fuzz.public.doors import GENERATORS, Door
from exams.fuzz.public.layer_doors import SOURCES
from exams.fuzz.public.pools import UNSET, Make, Pool, World, constants
from exams.fuzz.public.run_doors import EXPORTS, RUNS
from exams.fuzz.public.scalars import PATHS
from frostline.cli.main import app

_PARTS = ("\nWhere:    ", "\nReceived: ", "\nDo:       ")
_NETWORKS = "exams.fuzz.public.networks"
_ODD_PATHS = ("empty", "missing", "a file", "below a file", "filled", "loop", "long", "odd name", "device")


class Unkept(Exception):  # noqa: N818 (what a command promised)
    """A command ended in a way that it never may."""


def _text(make: Make) -> Make:
    return lambda world: str(make(world))


def _texts(**values: str) -> Pool:
    usual, *others = values.items()
    return Pool(constants(dict([usual])), constants(dict(others)))


_PATHS = {label: _text(PATHS[label]) for label in _ODD_PATHS}


def _arrays(world: World) -> str:
    path = world.folder / "plain.npz"
    np.savez(path, x=X.numpy(), y=CLASSES.numpy())
    return str(path)


DATA = Pool(
    {"arrays": _arrays},
    {
        **{f"file {k}": _text(v) for k, v in FILES.odd.items() if k not in PATHS},
        **{f"images {k}": _text(v) for k, v in {**IMAGES.sane, **IMAGES.odd}.items() if k not in PATHS},
        **_PATHS,
    },
)
MODEL = Pool(
    constants({"mlp": f"{_NETWORKS}:mlp"}),
    constants(
        {
            "half": f"{_NETWORKS}:half",
            "empty": "",
            "no colon": "resnet18",
            "no package": "nowhere:build",
            "no function": f"{_NETWORKS}:nothing",
            "no module": f"{_NETWORKS}:constants",
            "class": f"{_NETWORKS}:Own",
            "no name": f"{_NETWORKS}:",
            "only colon": ":",
            "unknown timm": "timm:resnet0",
            "empty timm": "timm:",
            "number": "3",
            "relative": ".networks:mlp",
            "attribute": f"{_NETWORKS}:MODULES",
            "two colons": f"{_NETWORKS}:mlp:mlp",
            "standard": "json:dumps",
            "abstract": "torch.nn:Module",
            "blank": " : ",
            "file": "model.py:build",
        }
    ),
)
WEIGHTS = Pool(
    {UNSET: lambda _: "", "safetensors": _text(SOURCES.sane["safetensors"])},
    {k: _text(v) for k, v in SOURCES.odd.items() if not k.startswith(("model ", "path ", "a dict", "itself"))} | _PATHS,
)
LAYER = Pool(constants({UNSET: "", "3": "3"}), constants({"unknown": "layer3", "empty": "", "last": "6", "glob": "*"}))
WHOLE = _texts(**{"2": "2", "1": "1", "0": "0", "minus": "-1", "half": "1.5", "text": "two", "empty": ""})
SIZES = _texts(**{"8": "8", "0": "0", "minus": "-1", "1": "1", "huge": str(2**70), "text": "x"})
LR = _texts(**{"0.01": "0.01", "0": "0", "minus": "-1", "nan": "nan", "inf": "inf", "text": "x", "huge": "1e300"})
SEED = _texts(**{UNSET: "", "7": "7", "minus": "-1", "huge": str(2**70), "half": "0.5"})
BUDGET = _texts(**{UNSET: "", "5": "5", "0": "0", "minus": "-1", "nan": "nan", "inf": "inf", "text": "x"})
SHARE = _texts(**{UNSET: "", "0.2": "0.2", "0": "0", "1": "1", "nan": "nan", "minus": "-0.5", "above": "2"})
OUT = Pool({"new": lambda w: str(w.folder / "out")}, _PATHS)
OPTIMIZER = _texts(**{UNSET: "", "sgd": "sgd", "unknown": "lion", "empty": ""})
SCHEDULER = _texts(**{UNSET: "", "cosine": "cosine", "unknown": "warm", "empty": ""})
PATIENCE = _texts(**{UNSET: "", "3": "3", "0": "0", "minus": "-1", "text": "x"})
THAW = _texts(**{
    UNSET: "", "epoch": "2:0", "whole": "2:*", "list": "3,0", "plateau": "plateau", "unknown": "2:layer3",
    "text": "a:b", "empty": "", "commas": ",,", "first": "1:0", "twice": "2:0,2:3",
})  # fmt: skip
LR_OR_NONE = _texts(**{UNSET: "", "2": "2", "0": "0", "minus": "-1", "nan": "nan", "text": "x"})
METRIC = _texts(**{UNSET: "", "f1": "f1", "auroc": "auroc", "unknown": "f2", "numbers": "r2", "empty": ""})
WORKERS = _texts(**{UNSET: "", "0": "0", "minus": "-1", "half": "0.5", "text": "x"})
CLASS_WEIGHTS = _texts(**{
    UNSET: "", "balanced": "balanced", "three": "1,2,3", "minus": "1,-1,1", "nan": "nan,1,1", "text": "a,b", "empty": ""
})  # fmt: skip
SMOOTHING = _texts(**{UNSET: "", "0.1": "0.1", "1": "1", "minus": "-0.1", "nan": "nan", "text": "x"})
HEAD = _texts(**{UNSET: "", "unknown": "nowhere", "empty": "", "number": "0"})
# Only folders of images have a size, and the data at hand are arrays: every value of these is odd.
PICTURES = {
    "size": _texts(**{UNSET: "", "32": "32", "0": "0", "minus": "-1", "text": "x"}),
    "mean": _texts(**{UNSET: "", "three": "0.5,0.5,0.5", "two": "0,0", "nan": "nan,0,0", "text": "red"}),
    "std": _texts(**{UNSET: "", "three": "1,1,1", "zero": "0,1,1", "inf": "inf,1,1", "empty": ""}),
}


def _as_texts(pool: Pool) -> Pool:
    return Pool({k: _text(v) for k, v in pool.sane.items()}, {k: _text(v) for k, v in pool.odd.items()})


FLAG = Pool(constants({UNSET: "", "on": ""}))
# Weights of PyTorch are copied, and have no certificate: every file for one is odd.
CERTIFICATE = Pool(constants({UNSET: ""}), {"new": lambda w: str(w.folder / "c.json"), **_PATHS})
ROOT = Pool(
    {"filled": _text(ROOTS.sane["filled"])}, {k: _text(v) for k, v in ROOTS.odd.items() if k not in PATHS} | _PATHS
)
TABLE = _as_texts(TABLES)
RECIPE = _texts(**{UNSET: "", "unknown": "abcd", "empty": "", "glob": "*", "dots": ".."})


def _run(words: tuple[str, ...], values: dict[str, Any]) -> Any:
    given = [str(value) for name, value in values.items() if name.isupper()]
    for name, value in values.items():
        if name.isupper():
            continue
        given += [f"--{name.replace('_', '-')}"] if name in _FLAGS else [f"--{name.replace('_', '-')}", str(value)]
    result = CliRunner().invoke(app, [*words, *given])
    return _checked(result, is_json="json" in values)


_FLAGS = {
    "json",
    "resume",
    "no_cache",
    "auto_cache",
    "heal",
    "overwrite",
    "keep_statistics",
    "yes",
    "list",
    "partial",
    "adapt",
}


def _checked(result: Any, *, is_json: bool) -> str:
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        raise error
    if result.exit_code not in (0, 1, 2):
        raise Unkept(f"exit code {result.exit_code}")
    if is_json and result.exit_code != 2:
        shown = json.loads(result.stdout)
        if result.exit_code == 1 and "error" in shown:
            raise fl.FrostlineError(**shown["error"])
    elif result.exit_code == 1 and not result.stdout.strip():
        if not all(part in result.stderr for part in _PARTS):
            raise Unkept(f"exit code 1 without an error in four parts: {result.stderr[-200:]!r}")
        first, _, rest = result.stderr.partition(_PARTS[0])
        where, _, rest = rest.partition(_PARTS[1])
        received, _, do = rest.partition(_PARTS[2])
        raise fl.FrostlineError(what=first.splitlines()[-1], where=where, received=received, do=do)
    return result.stdout


def door(words: str, pools: dict[str, Pool], cost: int = 1) -> Door:
    """A command with options from these pools; names in capitals are its arguments."""
    names = tuple(words.split())
    return Door(
        f"cli {words}",
        lambda: None,
        pools,
        lambda world, prepared, values: _run(names, world.values),
        cost=cost,
        owner={"cache": "caching", "port": "porting"}.get(names[0], "training"),
        moves=GENERATORS,
    )


BYTES = _texts(**{UNSET: "", "plenty": "1TB", "none": "0", "much": "much", "minus": "-1", "1.5 GB": "1.5 GB"})
STORAGE = _texts(**{UNSET: "", "float16": "float16", "int8": "int8", "unknown": "int4"})
PASSES = _texts(**{UNSET: "", "fold": "fold", "unknown": "fast"})
CACHE = _texts(**{UNSET: "", "folder": "features", "unknown": "nothing://a", "memory": "memory://fuzz"})
AUGMENT = _texts(**{UNSET: "", "two": "crop,flip", "unknown": "flop", "comma": ","})

DOORS: list[Door] = [
    door(
        "fit",
        {
            "DATA": DATA,
            "model": MODEL,
            "weights": WEIGHTS,
            "certificate": CERTIFICATE,
            "freeze": Pool(LAYER.sane, {**LAYER.odd, **constants({"auto": "auto", "converged": "converged"})}),
            "val": Pool({UNSET: lambda _: "", **DATA.sane}, DATA.odd),
            "val_share": SHARE,
            "epochs": WHOLE,
            "batch_size": SIZES,
            "lr": LR,
            "seed": SEED,
            "out": OUT,
            "resume": FLAG,
            "no_cache": FLAG,
            "auto_cache": FLAG,
            "storage": STORAGE,
            "heal": FLAG,
            "optimizer": OPTIMIZER,
            "scheduler": SCHEDULER,
            "patience": PATIENCE,
            "metric": METRIC,
            "class_weights": CLASS_WEIGHTS,
            "label_smoothing": SMOOTHING,
            "head": HEAD,
            **PICTURES,
            "workers": WORKERS,
            "overwrite": FLAG,
            "thaw": THAW,
            "thaw_every": PATIENCE,
            "thaw_patience": PATIENCE,
            "thaw_factor": LR_OR_NONE,
            "thaw_warmup": LR_OR_NONE,
            "keep_statistics": FLAG,
            "views": PATIENCE,
            "augment": AUGMENT,
            "accumulation": SIZES,
            "warmup": LR_OR_NONE,
            "scheduler_interval": _texts(**{UNSET: "", "step": "step", "unknown": "batch", "empty": ""}),
            "ema": LR_OR_NONE,
            "logger": _texts(**{UNSET: "", "tensorboard": "tensorboard", "unknown": "wandb", "empty": ""}),
            "frozen_pass": PASSES,
            "cache": CACHE,
            "devices": _texts(**{UNSET: "", "1": "1", "0": "0", "minus": "-1", "text": "x", "many": "1000000000"}),
            "engine": _texts(**{UNSET: "", "local": "local", "unknown": "spark", "empty": ""}),
            "json": FLAG,
        },
        5,
    ),
    door(
        "sweep",
        {
            "DATA": DATA,
            "model": MODEL,
            "weights": WEIGHTS,
            "certificate": CERTIFICATE,
            "freeze": LAYER,
            "lr": _texts(**{"two": "0.01,0.1", "0": "0", "text": "a,b", "empty": "", "nan": "nan", "comma": ","}),
            "weight_decay": _texts(**{UNSET: "", "two": "0,0.1", "minus": "-1", "text": "x"}),
            "dropout": _texts(**{UNSET: "", "two": "0,0.5", "1": "1", "text": "x"}),
            "width": _texts(**{UNSET: "", "two": "0,4", "half": "0.5", "minus": "-4", "text": "x", "inf": "inf"}),
            "optimizer": _texts(**{UNSET: "", "probe": "sgd,probe", "unknown": "lion", "empty": "", "comma": ","}),
            "halving": _texts(**{UNSET: "", "2": "2", "1": "1", "text": "x"}),
            "val": Pool({UNSET: lambda _: "", **DATA.sane}, DATA.odd),
            "val_share": SHARE,
            "epochs": WHOLE,
            "batch_size": SIZES,
            "seed": SEED,
            "metric": METRIC,
            "head": HEAD,
            **PICTURES,
            "workers": WORKERS,
            "out": OUT,
            "views": PATIENCE,
            "augment": AUGMENT,
            "storage": STORAGE,
            "frozen_pass": PASSES,
            "cache": CACHE,
            "json": FLAG,
        },
        5,
    ),
    door(
        "inspect",
        {
            "DATA": DATA,
            "model": MODEL,
            "freeze": LAYER,
            "weights": WEIGHTS,
            "certificate": CERTIFICATE,
            **PICTURES,
            "json": FLAG,
        },
        3,
    ),
    door(
        "choose-depth",
        {
            "DATA": DATA,
            "model": MODEL,
            "weights": WEIGHTS,
            "certificate": CERTIFICATE,
            "samples": _texts(**{"20": "20", "0": "0", "minus": "-1", "5": "5", "huge": str(2**70), "text": "x"}),
            "epochs": WHOLE,
            "seed": SEED,
            "workers": WORKERS,
            "cache": OUT,
            "views": PATIENCE,
            "augment": AUGMENT,
            "storage": STORAGE,
            "frozen_pass": PASSES,
            "picture": Pool({UNSET: lambda _: "", "new": lambda w: str(w.folder / "depth.svg")}, _PATHS),
            **PICTURES,
            "json": FLAG,
        },
        5,
    ),
    door(
        "checkup",
        {
            "MODEL": MODEL,
            "DATA": DATA,
            "weights": WEIGHTS,
            "certificate": CERTIFICATE,
            "batch_size": SIZES,
            "lr": LR,
            "steps": WHOLE,
            "seed": SEED,
            "budget": BUDGET,
            **PICTURES,
            "json": FLAG,
        },
        5,
    ),
    door("predict", {"RUN": _as_texts(RUNS), "DATA": DATA, "batch_size": SIZES, "workers": WORKERS, "json": FLAG}, 2),
    door("export", {"RUN": _as_texts(RUNS), "out": _as_texts(EXPORTS), "data": DATA.optional(), "json": FLAG}, 5),
    door("cache ls", {"cache": ROOT, "json": FLAG}),
    door("cache stats", {"cache": ROOT, "json": FLAG}),
    door("cache verify", {"cache": ROOT, "json": FLAG}),
    door("cache prune", {"cache": ROOT, "max_bytes": BYTES, "unused_days": LR.optional(), "yes": FLAG, "json": FLAG}),
    door(
        "cache forget",
        {
            "DATA": DATA,
            "model": MODEL,
            "cache": ROOT,
            "views": PATIENCE,
            "augment": AUGMENT,
            "yes": FLAG,
            **PICTURES,
            "json": FLAG,
        },
        2,
    ),
    door("cache export", {"cache": ROOT, "out": TABLE, "recipe": RECIPE, "json": FLAG}),
    door("cache purge", {"cache": ROOT, "recipe": RECIPE, "yes": FLAG, "json": FLAG}),
    door(
        "demo",
        {
            "out": Pool(
                {"a file": _PATHS["a file"]}, {k: _PATHS[k] for k in ("below a file", "loop", "device", "long")}
            ),
            "json": FLAG,
        },
    ),
]
