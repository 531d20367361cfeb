"""Doors of the port: `fl.port`, and its command in all its forms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

import frostline as fl
from exams.fuzz.public import scalars as s
from exams.fuzz.public.command_doors import FLAG, MODEL, OUT, door
from exams.fuzz.public.doors import ANYTHING, Door, function
from exams.fuzz.public.layer_doors import SOURCES, TRAINABLE
from exams.fuzz.public.networks import mlp
from exams.fuzz.public.pools import UNSET, Make, Pool, World, constants

_FILES = {label: make for label, make in SOURCES.odd.items() if not label.startswith("model ")}


def _arrays(**arrays: Any) -> Make:
    def write(world: World) -> Any:
        path = world.folder / "arrays.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def _certificate(change: Any = None) -> Make:
    """A certificate of a port of the plain file; with one field changed, which its digest shows."""

    def write(world: World) -> str:
        source = SOURCES.sane["safetensors"](world)
        values = fl.port(source, mlp()).as_dict() | {"to": "exams.fuzz.public.networks:mlp"}
        path = world.folder / "weights.certificate.json"
        path.write_text(json.dumps(values | (change or {})))
        return str(path)

    return write


FILE = Pool({"safetensors": SOURCES.sane["safetensors"]}, {
    **_FILES, "npz": _arrays(a=np.ones(3)), "npz of objects": _arrays(a=np.array([{}], object)),
})  # fmt: skip
HINTS = Pool(constants({UNSET: None, "right": {"1": "1"}}), constants({
    "unknown source": {"x": "1"}, "unknown layer": {"1": "x"}, "wrong type": {"1": "3"}, "numbers": {1: 3}, "list": [1],
    "text": "1", "empty": {}, "None": None, "twice": {"1": "3", "3": "3"},
}))  # fmt: skip
_X = torch.zeros(2, 1)
GOLDEN = Pool(constants({UNSET: None}), {
    **constants({"number": 3, "text": "missing.npz", "three": (1, 2, 3), "other shape": (_X, _X), "lists": ([1], [2])}),
    **constants({"samples": (torch.zeros(16, 4), None)}),
    "a file": _arrays(inputs=np.ones((2, 4), "f4"), outputs=np.ones((2, 2), "f4")),
    "other names": _arrays(x=np.ones(2)), "samples in a file": _arrays(inputs=np.ones((16, 4), "f4")),
})  # fmt: skip

DOORS: list[Door] = [
    function(
        "port",
        fl.port,
        {
            "model": TRAINABLE,
            "source": FILE,
            "hints": HINTS,
            "partial": s.FLAGS.optional(),
            "adapt": s.FLAGS.optional(),
            "golden": GOLDEN,
            "key": s.LAYERS.usual("unknown").optional(),
            "like": Pool(constants({UNSET: None}), constants({"text": "c.json", "number": 3})),
        },
        on_success=ANYTHING,
    ),
    door(
        "port",
        {
            "FILE": Pool(FILE.sane, {k: v for k, v in FILE.odd.items() if "dict" not in k}),
            "to": Pool({UNSET: lambda _: "", **MODEL.sane}, MODEL.odd),
            "out": Pool({"new": lambda w: str(w.folder / "out.safetensors")}, OUT.odd),
            "verify": Pool(constants({UNSET: ""}), {
                **{k: v for k, v in GOLDEN.odd.items() if k in ("a file", "other names", "samples in a file")},
                **constants({"missing": "missing.npz", "empty": ""}),
            }),
            "hints": Pool(constants({UNSET: "", "right": '{"1": "1"}'}), constants({
                "no JSON": "{", "list": "[1]", "unknown": '{"x": "y"}', "missing": "a.json", "numbers": '{"1": 3}',
            })),
            "key": Pool(constants({UNSET: ""}), constants({"unknown": "ema", "empty": ""})),
            "check": Pool({UNSET: lambda _: "", "right": _certificate()}, {
                "other digest": _certificate({"sha256": "0" * 64}), "schema": _certificate({"schema": 9}),
                "no mapping": _certificate({"mapping": 3}), "no model": _certificate({"to": ""}),
                **constants({"missing": "missing.json", "empty": "", "folder": "/"}),
            }),
            "list": FLAG,
            "scaffold": Pool({UNSET: lambda _: "", "new": lambda w: str(w.folder / "net.py")}, OUT.odd),
            "partial": FLAG,
            "adapt": FLAG,
            "json": FLAG,
        },
        3,
    ),
]  # fmt: skip
