"""Draws programs from a seed."""

from __future__ import annotations

import random

from .kind import Kind
from .kinds import FAMILIES
from .programs import Program, Step

LATER = ("scaled", "shifted", "zeros", "negative", "rounded", "copies", "outlier", "padded", "tiny", "same")
# How often a statement comes from each family, in the frozen and in the trainable part: what is refused at once in
# most models is drawn less often, so that whole models are mostly of the kind that people bring.
_NAMES = ("layers", "functions", "writes", "batches", "steering", "state", "noise", "containers")
_SHARES = {"f": (5, 5, 1.2, 0.7, 0.8, 0.5, 0.3, 1), "t": (4, 3, 2, 1.6, 1.8, 1.2, 1, 1.5)}


def draw(seed: int) -> Program:
    """The program of a seed."""
    rng = random.Random(seed)
    layout = rng.choice("rrrtti")
    frozen, trainable = ["v0"], []
    steps: list[Step] = []
    for place, count in (("f", rng.choice((0, 1, 1, 2, 2, 3))), ("t", rng.choice((1, 1, 2, 2, 3, 4)))):
        for at in range(count):
            kind = _kind(rng, place, layout, is_layer=place == "t" and at == 0 and rng.random() < 0.6)
            own = frozen if place == "f" else trainable or frozen
            a = own[-1] if rng.random() < 0.75 else rng.choice(own if place == "f" else frozen + trainable)
            b = rng.choice(frozen if place == "f" else frozen + trainable)
            step = Step(kind, place, f"v{len(steps) + 1}", a, b, rng.choice(frozen[-2:]))
            steps.append(step)
            (frozen if place == "f" else trainable).append(step.target)
    count, batch = rng.choice(((22, 6), (20, 5), (23, 6), (21, 8), (18, 6), (26, 8), (19, 6)))
    return Program(
        layout, rng.choice(("tensor", "tensor", "tensor", "pair", "mapping")), tuple(steps), steps[-1].target,
        rng.choice(("tensor",) * 8 + ("mapping", "tuple")), rng.choice(LATER), count, batch,
        rng.choice(("sgd", "sgd", "adamw")), seed,
    )  # fmt: skip


def _kind(rng: random.Random, place: str, layout: str, *, is_layer: bool) -> Kind:
    family = "layers" if is_layer else rng.choices(_NAMES, _SHARES[place])[0]
    shape = "r" if layout == "r" else "t"
    kinds = [kind for kind in FAMILIES[family] if place in kind.places and shape in kind.layouts]
    return rng.choices(kinds, [kind.weight for kind in kinds])[0]
