"""Doors of trained runs: what loads one, and what predicts with it."""

from __future__ import annotations

from typing import Any

import frostline as fl
from exams.fuzz.public import networks
from exams.fuzz.public import scalars as s
from exams.fuzz.public.data_doors import FILES, IMAGES
from exams.fuzz.public.doors import GENERATORS, Door, function
from exams.fuzz.public.pools import Make, Pool, World
from exams.fuzz.public.scalars import PATHS
from frostline.recipes.save import save_model

_FACTS: dict[str, Any] = {"model": f"{networks.__name__}:mlp", "classes": ["a", "b"], "best_epoch": 1,
                          "input": {"shape": [networks.D], "dtype": "float32"}}  # fmt: skip


def _run(**changes: Any) -> Make:
    def make(world: World) -> Any:
        facts = {name: value for name, value in {**_FACTS, **changes}.items() if value is not None}
        return save_model(networks.mlp(), world.folder / "run", facts).parent

    return make


def _without_weights(world: World) -> Any:
    folder = _run()(world)
    (folder / "model.safetensors").write_bytes(b"torn")
    return folder


RUNS = Pool(
    {"run": _run()},
    {
        "three classes": _run(classes=["a", "b", "c"]),
        "no classes": _run(classes=None),
        "no model": _run(model=None),
        "unknown model": _run(model="nowhere:build"),
        "unknown head": _run(head="nowhere"),
        "treated": _run(treated=["norms"]),
        "unknown setting": _run(settings={"nowhere.eps": 1.0}),
        "odd size": _run(images={"crop": {"size": 0}}),
        "odd images": _run(images=[1]),
        "classes of numbers": _run(classes=3),
        "torn weights": _without_weights,
        "odd input": _run(input={"shape": "many"}),
        **PATHS,
    },
)
SAMPLES = Pool(FILES.sane, {**FILES.odd, **IMAGES.sane, **IMAGES.odd})
EXPORTS = Pool({"torch": lambda w: w.folder / "new.pt2"}, {"no format": lambda w: w.folder / "new.pt", **PATHS})
DOORS: list[Door] = [
    function("load", fl.load, {"run": RUNS}, moves=GENERATORS),
    function(
        "predict",
        fl.predict,
        {"run": RUNS, "data": SAMPLES, "batch_size": s.COUNTS, "num_workers": s.NO_WORKERS},
        moves=GENERATORS,
    ),
    function(
        "export",
        fl.export,
        {"run": RUNS, "path": EXPORTS, "data": SAMPLES.optional()},
        moves=GENERATORS,
        cost=5,
    ),
]
