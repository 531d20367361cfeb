"""Networks that flatten maps, drawn at random: which operations, on values of which shapes.

Legend: B batch, H height, W width, C channels, T time, F features. Shapes are those of the source, without the batch:
a map (H, W, C), rows (T, C), or features (F,).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

WORDS, LENGTH = 20, 8


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the values that it takes, and its settings; the layer of the same number is its own."""

    kind: str
    inputs: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """A network.

    Attributes:
        begins: `image` (B, 8, 8, 3), `large` (B, 12, 12, 4) or `words` (B, T).
        nodes: In order; the value of node `i` has the number `i + 1`, the input is 0.
        shapes: Of the values, without the batch.
    """

    begins: str
    nodes: list[Node]
    shapes: list[tuple[int, ...]]


def draw(seed: int) -> Program:
    """The network of a seed."""
    rng = random.Random(seed)
    begins = rng.choice(("image", "image", "image", "large", "words"))
    shape = {"image": (8, 8, 3), "large": (12, 12, 4), "words": (LENGTH,)}[begins]
    made = Program(begins, [], [shape])
    if begins == "words":
        width = rng.choice((4, 8, LENGTH))
        _add(made, "embedding", (0,), (LENGTH, width), width=width, has_places=rng.random() < 0.7)
    else:
        width = rng.choice((2, 3, 4, 6, 8))
        _add(made, "conv", (0,), (*shape[:2], width), width=width, size=3)
    for _ in range(rng.randint(3, 9)):
        _step(rng, made)
    while len(made.shapes[-1]) > 1:
        _flatten(rng, made)
    if made.shapes[-1][0] > 700:
        return draw(seed + 1_000_003)
    _add(made, "linear", (len(made.nodes),), (5,), width=5)
    return made


def _add(program: Program, kind: str, inputs: tuple[int, ...], shape: tuple[int, ...], **settings: Any) -> None:
    settings["style"] = random.Random(len(program.nodes) * 7919 + sum(shape) + len(kind)).randint(0, 5)
    program.nodes.append(Node(kind, inputs, settings))
    program.shapes.append(shape)


def _flatten(rng: random.Random, program: Program) -> None:
    at, shape = len(program.nodes), program.shapes[-1]
    _add(program, "flatten", (at,), (math.prod(shape),), turn=rng.random() < 0.3)


def _step(rng: random.Random, program: Program) -> None:
    """One more operation, of those that the last value can have; none if the one that is drawn does not fit."""
    at, shape = len(program.nodes), program.shapes[-1]
    like = [index for index, other in enumerate(program.shapes) if index and other == shape and index != at]
    {3: _on_map, 2: _on_rows, 1: _on_flat}[len(shape)](rng, program, at, shape, like)


def _on_map(rng: random.Random, program: Program, at: int, shape: tuple[int, ...], like: list[int]) -> None:
    height, width, channels = shape
    kind = rng.choice((
        "conv", "conv", "activation", "pool", "norm", "crelu", "halves", "glu", "add", "concat", "dropout", "pad",
        "crop", "upsample", "pointwise", "shuffle", "gate", "flatten", "flatten", "flatten", "rows", "strips",
        "turn", "mean", "shift",
    ))  # fmt: skip
    inputs, made, settings = (at,), shape, {}
    if kind == "conv":
        settings = {"width": rng.choice((2, 3, 4, 6, 8)), "size": rng.choice((1, 3))}
        made = (height, width, settings["width"])
    elif kind == "pointwise":
        settings = {"width": rng.choice((2, 4, 6))}
        made = (height, width, settings["width"])
    elif kind == "pool":
        if min(height, width) < 2:
            return
        settings = {"mean": rng.random() < 0.5}
        made = (height // 2, width // 2, channels)
    elif kind == "crelu":
        made = (height, width, 2 * channels)
    elif kind in ("halves", "glu"):
        if channels % 2:
            return
        made = (height, width, channels // 2)
    elif kind == "shuffle":
        if channels % 4:
            return
        made = (2 * height, 2 * width, channels // 4)
    elif kind in ("add", "concat"):
        if not like:
            return
        inputs = (at, rng.choice(like))
        made = shape if kind == "add" else (height, width, 2 * channels)
    elif kind == "pad":
        made = (height + 2, width, channels)
    elif kind == "crop":
        if width < 3:
            return
        made = (height, width - 1, channels)
    elif kind == "upsample":
        made = (2 * height, 2 * width, channels)
    elif kind == "flatten":
        settings = {"turn": rng.random() < 0.3}
        made = (math.prod(shape),)
    elif kind == "rows":
        made = (height * width, channels)
    elif kind == "strips":
        settings = {"turn": rng.random() < 0.5}
        made = (height, width * channels)
    elif kind == "mean":
        made = (channels,)
    if math.prod(made) > 1200:
        return
    _add(program, kind, inputs, made, **settings)


def _on_rows(rng: random.Random, program: Program, at: int, shape: tuple[int, ...], like: list[int]) -> None:
    length, width = shape
    kind = rng.choice(("pointwise", "conv1d", "activation", "add", "layernorm", "mean", "flatten", "flatten",
                       "attention",                        "heads", "first", "lstm", "turn", "mixer"))  # fmt: skip
    inputs, made, settings = (at,), shape, {}
    if kind in ("pointwise", "conv1d", "lstm"):
        settings = {"width": rng.choice((2, 4, 6, width))}
        made = (length, settings["width"])
    elif kind == "add":
        if not like:
            return
        inputs = (at, rng.choice(like))
    elif kind == "heads":
        if width % 2:
            return
    elif kind in ("mean", "first"):
        made = (width,)
    elif kind == "flatten":
        settings = {"turn": rng.random() < 0.15}
        made = (length * width,)
    if length > 40 and kind in ("lstm", "attention"):
        return
    _add(program, kind, inputs, made, **settings)


def _on_flat(rng: random.Random, program: Program, at: int, shape: tuple[int, ...], like: list[int]) -> None:
    (count,) = shape
    kind = rng.choice(("linear", "linear", "square", "norm", "layernorm", "gain", "activation", "add", "dropout",
                       "maps", "maps", "flats", "flats", "softmax", "normalize"))  # fmt: skip
    inputs, made, settings = (at,), shape, {}
    flats = [index for index, other in enumerate(program.shapes) if index and len(other) == 1 and index != at]
    if kind == "linear":
        made = (rng.choice((4, 6, 12, 36, 48, 64)),)
        settings = {"width": made[0]}
    elif kind == "square":
        if count > 300:
            return
        settings = {"width": count}
    elif kind == "add":
        if not like:
            return
        inputs = (at, rng.choice(like))
    elif kind == "flats":
        if not flats:
            return
        inputs = (at, rng.choice(flats))
        made = (count + program.shapes[inputs[1]][0],)
    elif kind == "maps":
        sides = [side for side in (2, 3, 4, 6) if count % (side * side) == 0]
        if not sides:
            return
        side = rng.choice(sides)
        settings = {"side": side, "turn": rng.random() < 0.2}
        made = (side, side, count // (side * side))
    if math.prod(made) > 1200:
        return
    _add(program, kind, inputs, made, **settings)
