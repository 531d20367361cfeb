"""Networks that flatten maps, as frameworks with channels last compute them: in NumPy, with weights as of Flax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .flattened_programs import LENGTH, WORDS

if TYPE_CHECKING:
    from .flattened_programs import Node, Program


def weights_of(program: Program, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """The weights of each layer, in the words and layouts of Flax."""
    random_state = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return (random_state.standard_normal(shape) / math.sqrt(max(1, math.prod(shape[:-1])))).astype("float32")

    def norm(count: int) -> dict[str, np.ndarray]:
        made = {name: random_state.uniform(0.5, 1.5, count).astype("float32") for name in ("scale", "mean", "var")}
        return made | {"bias": random_state.standard_normal(count).astype("float32")}

    found: dict[str, dict[str, np.ndarray]] = {}
    for index, node in enumerate(program.nodes):
        before, own = program.shapes[node.inputs[0]], node.settings
        if node.kind == "conv":
            size = own["size"]
            made = {"kernel": numbers(size, size, before[-1], own["width"]), "bias": numbers(own["width"])}
        elif node.kind == "conv1d":
            made = {"kernel": numbers(3, before[-1], own["width"]), "bias": numbers(own["width"])}
        elif node.kind in ("linear", "square", "pointwise"):
            made = {"kernel": numbers(before[-1], own["width"]), "bias": numbers(own["width"])}
        elif node.kind == "norm":
            made = norm(before[-1])
        elif node.kind == "layernorm":
            made = {name: value for name, value in norm(before[-1]).items() if name in ("scale", "bias")}
        elif node.kind == "gain":
            made = {"gain": random_state.uniform(0.5, 1.5, before[-1]).astype("float32")}
        elif node.kind == "mixer":
            made = {"kernel": numbers(before[0], before[0]), "bias": numbers(before[0])}
        elif node.kind == "lstm":
            made = {f"{side}{gate}/kernel": numbers(before[-1] if side == "i" else own["width"], own["width"])
                    for side in "ih" for gate in "ifgo"}  # fmt: skip
            made |= {f"h{gate}/bias": numbers(own["width"]) for gate in "ifgo"}
        elif node.kind == "embedding":
            made = {"embedding": numbers(WORDS, own["width"])}
            if own["has_places"]:
                found[f"p{index}"] = {"embedding": numbers(LENGTH, own["width"])}
        else:
            continue
        found[f"n{index}"] = made
    return found


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    axes = kernel.ndim - 2
    margin = kernel.shape[0] // 2
    x = np.pad(x, [(0, 0), *[(margin, margin)] * axes, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:axes], tuple(range(1, axes + 1)))
    letters = "hw"[:axes]
    return np.einsum(f"b{'xy'[:axes]}c{letters},{letters}cd->b{'xy'[:axes]}d", windows, kernel) + bias


def _recurrent(x: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    width = own["hi/kernel"].shape[0]
    h = c = np.zeros((len(x), width))
    made = []
    for step in range(x.shape[1]):
        gate = {name: x[:, step] @ own[f"i{name}/kernel"] + h @ own[f"h{name}/kernel"] + own[f"h{name}/bias"]
                for name in "ifgo"}  # fmt: skip
        c = _sigmoid(gate["f"]) * c + _sigmoid(gate["i"]) * np.tanh(gate["g"])
        h = _sigmoid(gate["o"]) * np.tanh(c)
        made.append(h)
    return np.stack(made, 1)


def _pooled(x: np.ndarray, *, mean: bool) -> np.ndarray:
    batch, height, width, channels = x.shape
    tiles = x[:, : height // 2 * 2, : width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
    return tiles.mean((2, 4)) if mean else tiles.max((2, 4))


def _spread(x: np.ndarray) -> np.ndarray:
    """Depth to space as TensorFlow has it."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(batch, 2 * height, 2 * width, channels // 4)


def _softmax(x: np.ndarray) -> np.ndarray:
    made = np.exp(x - x.max(-1, keepdims=True))
    return made / made.sum(-1, keepdims=True)


def _normed(x: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    mean, var = (own["mean"], own["var"]) if "mean" in own else (x.mean(-1, keepdims=True), x.var(-1, keepdims=True))
    return (x - mean) / np.sqrt(var + 1e-5) * own["scale"] + own["bias"]


def outputs_of(program: Program, weights: dict[str, dict[str, np.ndarray]], inputs: np.ndarray) -> np.ndarray:
    """What the source network computes, in float64."""
    values = [inputs if inputs.dtype.kind == "i" else inputs.astype("float64")]
    for index, node in enumerate(program.nodes):
        own = {name: value.astype("float64") for name, value in weights.get(f"n{index}", {}).items()}
        x, *others = (values[at] for at in node.inputs)
        values.append(_computed(node, x, others, own, weights.get(f"p{index}", {})))
    return values[-1]


def _computed(
    node: Node, x: np.ndarray, others: list[np.ndarray], own: dict[str, np.ndarray], places: dict[str, Any]
) -> np.ndarray:  # fmt: skip
    kind, channels = node.kind, x.shape[-1]
    if kind in ("conv", "conv1d"):
        return _convolved(x, own["kernel"], own["bias"])
    if kind in ("linear", "square", "pointwise"):
        return x @ own["kernel"] + own["bias"]
    if kind == "mixer":
        return (x.transpose(0, 2, 1) @ own["kernel"] + own["bias"]).transpose(0, 2, 1)
    if kind == "embedding":
        return own["embedding"][x] + (places["embedding"] if places else 0)
    return {
        "activation": lambda: np.maximum(x, 0) + 0.1 * x, "pool": lambda: _pooled(x, mean=node.settings["mean"]),
        "norm": lambda: _normed(x, own), "layernorm": lambda: _normed(x, own), "gain": lambda: x * own["gain"],
        "crelu": lambda: np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], -1),
        "halves": lambda: x[..., : channels // 2] * np.tanh(x[..., channels // 2 :]),
        "glu": lambda: x[..., : channels // 2] * _sigmoid(x[..., channels // 2 :]),
        "add": lambda: x + others[0], "concat": lambda: np.concatenate([x, others[0]], -1), "dropout": lambda: x,
        "flats": lambda: np.concatenate([x, others[0]], -1), "turn": lambda: x, "shift": lambda: x * 0.5 + 0.1,
        "pad": lambda: np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))), "crop": lambda: x[:, :, 1:],
        "upsample": lambda: x.repeat(2, 1).repeat(2, 2), "shuffle": lambda: _spread(x),
        "gate": lambda: x * _sigmoid(x.mean((1, 2), keepdims=True)), "flatten": lambda: x.reshape(len(x), -1),
        "rows": lambda: x.reshape(len(x), -1, channels), "strips": lambda: x.reshape(*x.shape[:2], -1),
        "mean": lambda: x.mean(tuple(range(1, x.ndim - 1))), "first": lambda: x[:, 0],
        "lstm": lambda: _recurrent(x, own),
        "attention": lambda: _softmax(x @ x.transpose(0, 2, 1)) @ x, "heads": lambda: np.tanh(x),
        "softmax": lambda: _softmax(x), "normalize": lambda: x / np.sqrt((x * x).sum(-1, keepdims=True)),
        "maps": lambda: x.reshape(len(x), node.settings["side"], node.settings["side"], -1),
    }[kind]()  # fmt: skip
