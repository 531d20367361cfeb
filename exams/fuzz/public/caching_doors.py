"""Doors of the feature cache, of cached data sets and of their loaders."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import numpy as np
import torch

import frostline as fl
from exams.fuzz.public import scalars as s
from exams.fuzz.public.datasets import COLLATES, DATASETS, fl_half, plain
from exams.fuzz.public.doors import GENERATORS, Door, method
from exams.fuzz.public.pools import Make, Pool, World, constants
from exams.fuzz.public.tensors import batch
from frostline.caching import CachedLoader


def _cache_folder(break_it: Any = None) -> Make:
    def make(world: World) -> Any:
        root = world.folder / "cache"
        model = fl_half()
        fl.FeatureCache(root).fill(fl.split(model, batch()), plain(), progress=False)
        if break_it is not None:
            for path in sorted(root.rglob("*")):
                break_it(path)
        return root

    return make


def _tear(path: Any) -> None:
    if path.suffix == ".json":
        path.write_text(path.read_text()[: path.stat().st_size // 2])


def _retype(path: Any) -> None:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: "1e999" if at % 2 else [] for at, key in enumerate(content)}))


def _list(path: Any) -> None:
    if path.suffix == ".json":
        path.write_text("[1, 2]")


def _cut(path: Any) -> None:
    if path.suffix == ".safetensors":
        path.write_bytes(path.read_bytes()[:40])


def _drop(path: Any) -> None:
    if path.suffix == ".safetensors":
        path.unlink()


ROOTS = Pool(
    {"filled": _cache_folder(), "new": lambda w: w.folder / "new"},
    {
        "torn manifest": _cache_folder(_tear),
        "other types": _cache_folder(_retype),
        "list manifest": _cache_folder(_list),
        "cut shards": _cache_folder(_cut),
        "no shards": _cache_folder(_drop),
        **{k: v for k, v in s.FOLDERS.odd.items() if k not in ("text",)},
    },
)
TABLES = Pool(
    {"safetensors": lambda w: w.folder / "rows.safetensors", "parquet": lambda w: str(w.folder / "rows.parquet")},
    {"other": lambda w: w.folder / "rows.csv", **s.FOLDERS.odd},
)
RECIPES = Pool(constants({"-": None, "unknown": "abcd"}), s.LAYERS.odd)


def _cache(world: World) -> fl.FeatureCache:
    return fl.FeatureCache(world.values["root"])


def _cached(world: World) -> fl.CachedDataset:
    model = fl_half()
    return fl.FeatureCache(world.folder / "cache").fill(fl.split(model, batch()), plain(), progress=False)


SPLITS = Pool(
    {"of half": lambda _: fl.split(fl_half(), batch())},
    {
        **constants({"None": None, "text": "split", "class": fl.Split, "dict": {}}),
        "model": lambda _: fl_half(),
        "head": lambda _: fl.split(fl_half(), batch()).head,
    },
)


SAMPLE_LISTS = Pool(
    {"two": lambda w: [_cached(w)[0], _cached(w)[3]]},
    {
        **constants({"None": None, "text": "samples", "number": 3, "empty": [], "numbers": [1, 2], "pairs": [(1, 2)]}),
        "one": lambda w: _cached(w)[0],
        "others": lambda _: [((torch.ones(3),), 1), ((torch.ones(2),), 0)],
        "targets of two kinds": lambda w: [_cached(w)[0], (_cached(w)[1][0], "a")],
        "no tensors": lambda _: [((1.0,), 1)],
    },
)


def _passes(loader: Any) -> Any:
    len(loader)
    return list(islice(loader, 3))


LOADER_STATES = Pool(
    {"good": lambda _: {"seed": 1, "epoch": 2, "batch": 1, "batch_size": 8}},
    constants(
        {
            "other size": {"seed": 1, "epoch": 2, "batch": 1, "batch_size": 4},
            "empty": {},
            "None": None,
            "text": "x",
            "batch beyond": {"seed": 1, "epoch": 2, "batch": 999, "batch_size": 8},
            "list": [1, 2, 3, 8],
            "batch below": {"seed": 1, "epoch": 2, "batch": -5, "batch_size": 8},
            "texts": {"seed": "1", "epoch": "2", "batch": "1", "batch_size": 8},
            "Nones": {"seed": None, "epoch": None, "batch": None, "batch_size": 8},
            "minus epoch": {"seed": 1, "epoch": -1, "batch": 0, "batch_size": 8},
            "half": {"seed": 1, "epoch": 0.5, "batch": 0, "batch_size": 8},
            "huge seed": {"seed": 2**80, "epoch": 2**80, "batch": 0, "batch_size": 8},
        }
    ),
)


def _set_epoch(loader: CachedLoader, epoch: Any) -> Any:
    loader.epoch = epoch
    return _passes(loader)


INDEX_LISTS = Pool(
    constants({"some": [0, 2, 4]}),
    {
        **constants(
            {
                "empty": [],
                "None": None,
                "text": "01",
                "beyond": [0, 999],
                "below": [-1, 0],
                "halves": [0.5],
                "texts": ["0"],
                "twice": [1, 1],
            }
        ),
        "tensor": lambda _: torch.tensor([0, 1]),
        "numpy": lambda _: np.array([0, 1]),
    },
)

ENGINES = Pool(
    constants({"local": "local"}), constants({"other": "spark", "empty": "", "number": 3, "list": ["local"]})
)

_FILL: dict[str, Pool] = {
    "collate_fn": COLLATES,
    "frozen_pass": s.PASSES,
    "batch_size": s.COUNTS.optional(),
    "num_workers": s.NO_WORKERS,
    "progress": s.FLAGS.usual("False", "True"),
    "views": s.VIEWS,
    "storage": s.STORAGES,
    "engine": ENGINES.optional(),
}
_ONCE: dict[str, Any] = {"moves": GENERATORS, "owner": "caching"}

MIXES = Pool(
    constants({"-": None}),
    {
        **constants({"text": "mixup", "number": 3, "class": dict, "list": []}),
        "halves": lambda _: lambda features, target: (features.lerp(features.roll(1, 0), 0.5), target),
        "one value": lambda _: lambda features, target: features,
        "none": lambda _: lambda features, target: None,
    },
)


def _key(world: World) -> Any:
    path = world.folder / "cache.key"
    path.write_bytes(b"k" * 32)
    return path


# A URL and its options are sane together only, as an option alone is refused.
PLACES = Pool(
    {**s.FOLDERS.sane, "memory": lambda w: f"memory://{w.folder.name}"},
    {**s.FOLDERS.odd, **constants({"unknown URL": "nothing://a", "no bucket": "memory://", "half": "file://"})},
).usual("new")
STORE_OPTIONS = Pool(constants({"-": None}), constants({"empty": {}, "text": "key", "list": [1], "odd": {1: 2}}))
KEY_FILES = Pool({"key": _key}, {k: v for k, v in s.PATHS.items() if k != "None"}).optional()

DOORS: list[Door] = [
    Door(
        "FeatureCache",
        fl.FeatureCache.__init__,
        {
            "root": PLACES,
            "storage_options": STORE_OPTIONS,
            "local_folder": s.FOLDERS.optional(),
            "local_bytes": s.COUNTS.optional(),
            "key_file": KEY_FILES,
            "engine": ENGINES.optional(),
        },
        lambda w, _, v: fl.FeatureCache(**v).entries(),
        owner="caching",
    ),
    method(
        "FeatureCache.fill",
        fl.FeatureCache.fill,
        {"root": ROOTS, "split": SPLITS, "dataset": DATASETS, **_FILL},
        _cache,
        owner="caching",
        cost=2,
    ),
    method(
        "FeatureCache.plan",
        fl.FeatureCache.plan,
        {
            "root": ROOTS,
            "split": SPLITS,
            "dataset": DATASETS,
            "views": s.VIEWS,
            "storage": s.STORAGES,
            "collate_fn": COLLATES,
            "frozen_pass": s.PASSES,
        },
        _cache,
        owner="caching",
    ),
    method("FeatureCache.entries", fl.FeatureCache.entries, {"root": ROOTS}, _cache, owner="caching"),
    method("FeatureCache.stats", fl.FeatureCache.stats, {"root": ROOTS}, _cache, owner="caching"),
    method("FeatureCache.verify", fl.FeatureCache.verify, {"root": ROOTS}, _cache, owner="caching"),
    method(
        "FeatureCache.prune",
        fl.FeatureCache.prune,
        {"root": ROOTS, "max_bytes": s.COUNTS.optional(), "unused_days": s.RATES.optional()},
        _cache,
        owner="caching",
    ),
    method(
        "FeatureCache.forget",
        fl.FeatureCache.forget,
        {"root": ROOTS, "dataset": DATASETS, "views": s.VIEWS, "collate_fn": COLLATES},
        _cache,
        owner="caching",
        moves=GENERATORS,
    ),
    method(
        "FeatureCache.export",
        fl.FeatureCache.export,
        {"root": ROOTS, "path": TABLES, "recipe": RECIPES},
        _cache,
        owner="caching",
    ),
    method("CachedDataset.export", fl.CachedDataset.export, {"path": TABLES}, _cached, owner="caching"),
    method("FeatureCache.purge", fl.FeatureCache.purge, {"root": ROOTS, "recipe": RECIPES}, _cache, owner="caching"),
    method(
        "CachedDataset.loader",
        fl.CachedDataset.loader,
        {
            "batch_size": s.COUNTS,
            "shuffle": s.FLAGS.optional(),
            "seed": s.SEEDS.optional(),
            "drop_last": s.FLAGS.optional(),
            "by_length": s.FLAGS.optional(),
            "may_change": s.FLAGS.optional(),
            "memory_bytes": s.COUNTS.optional(),
            "device": s.DEVICES,
            "mix": MIXES,
        },
        _cached,
        _passes,
        **_ONCE,
    ),
    method(
        "CachedDataset.collate",
        fl.CachedDataset.collate,
        {"samples": SAMPLE_LISTS},
        _cached,
        **_ONCE,
    ),
    method(
        "CachedDataset.part",
        fl.CachedDataset.part,
        {"indices": INDEX_LISTS},
        _cached,
        lambda part: (len(part), part.targets, _passes(part.loader(4))),
        **_ONCE,
    ),
    method(
        "CachedDataset.set_epoch",
        fl.CachedDataset.set_epoch,
        {"epoch": s.COUNTS},
        _cached,
        lambda _: None,
        **_ONCE,
    ),
    method(
        "CachedDataset.__getitem__",
        fl.CachedDataset.__getitem__,
        {"index": s.INDICES},
        _cached,
        allowed=(IndexError,),
        **_ONCE,
    ),
    method(
        "CachedDataset.__getitems__",
        fl.CachedDataset.__getitems__,
        {"indices": INDEX_LISTS},
        _cached,
        allowed=(IndexError,),
        **_ONCE,
    ),
    method(
        "CachedLoader.load_state_dict",
        CachedLoader.load_state_dict,
        {"state": LOADER_STATES},
        lambda w: _cached(w).loader(8),
        lambda _: None,
        **_ONCE,
    ),
    Door(
        "CachedLoader.epoch",
        lambda epoch: None,
        {"epoch": s.COUNTS},
        lambda w, loader, v: _set_epoch(loader, v["epoch"]),
        lambda w: _cached(w).loader(8, shuffle=True),
        **_ONCE,
    ),
]
