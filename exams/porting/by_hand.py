"""The layout rules written once more, independently of Frostline's: what a port must arrive at.

A case names, for each layer of its PyTorch module, the layer of the source network that it is. `by_hand` applies the
rule of the framework and of the type of the PyTorch layer; layers that need more (a flattened map, several sources)
are given by a function instead of a name. Shapes are never looked at to decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

Arrays = Mapping[str, np.ndarray]
Leaves = dict[str, np.ndarray]
Rule = Callable[[Arrays], Leaves]
Pairs = Mapping[str, "str | Rule"]

KERNEL = {  # from (k..., I, O) to (O, I, k...)
    3: (2, 1, 0),
    4: (3, 2, 0, 1),
    5: (4, 3, 0, 1, 2),
}


def unit(arrays: Arrays, name: str) -> Leaves:
    """The arrays of one layer by the last part of their names, wherever in the network the layer stands."""
    found = {}
    starts = any(path.startswith(f"{name}/") for path in arrays)  # a whole path is meant before a part of one
    for path, value in arrays.items():
        if path.startswith(f"{name}/") if starts else f"/{name}/" in path:
            leaf = f"/{path}".split(f"/{name}/", 1)[1]
            found[leaf] = found[leaf.rsplit("/", 1)[-1]] = value
    if not found:
        raise KeyError(name)
    return found


def torch_leaves(layer: nn.Module, source: Leaves) -> Leaves:
    """PyTorch into PyTorch."""
    return {leaf: source[leaf] for leaf in layer.state_dict()}


def by_hand(module: nn.Module, arrays: Arrays, pairs: Pairs, framework: str) -> dict[str, torch.Tensor]:
    """The state of `module` that computes what the source network computes.

    Args:
        module: The counterpart; its own values stand in for nothing but counters.
        arrays: The variables of the source network.
        pairs: By the name of a layer of `module` (empty for its own parameters), its source.
        framework: Whose layouts `arrays` have.

    Raises:
        KeyError: If a tensor of the module has no source, or a source has no such tensor.
    """
    if framework == "flax":  # collections: the leaves of `params` and `batch_stats` have different names
        arrays = {path.split("/", 1)[1]: value for path, value in arrays.items()}
    state = dict(module.state_dict())
    missing = {name for name in state if not name.endswith("num_batches_tracked")}
    for name, source in pairs.items():
        layer = module.get_submodule(name)
        leaves = RULES[framework](layer, unit(arrays, source)) if isinstance(source, str) else source(arrays)
        for leaf, value in leaves.items():
            full = f"{name}.{leaf}" if name else leaf
            if tuple(value.shape) != tuple(state[full].shape):
                raise KeyError(f"{full}: {value.shape} for {tuple(state[full].shape)}")
            state[full] = torch.tensor(np.ascontiguousarray(value), dtype=state[full].dtype)
            missing.discard(full)
    tied = {name: value.data_ptr() for name, value in module.state_dict(keep_vars=True).items()}
    missing -= {name for name in missing if any(tied[name] == tied[other] for other in tied if other not in missing)}
    if missing:
        raise KeyError(f"no source for {sorted(missing)}")
    return state


def norm(layer: nn.Module, scale: np.ndarray | None, shift: np.ndarray | None) -> Leaves:
    """Weight and bias of a norm, ones and zeros where the source has none and the layer does."""
    found = {}
    if layer.weight is not None:
        found["weight"] = np.ones(layer.weight.shape) if scale is None else scale
    if layer.bias is not None:
        found["bias"] = np.zeros(layer.bias.shape) if shift is None else shift
    return found


def keras(layer: nn.Module, source: Leaves) -> Leaves:
    """Keras: kernels end with (in, out), those of transposed convolutions with (out, in)."""
    found = {"bias": source["bias"]} if "bias" in source else {}
    if isinstance(layer, nn.MultiheadAttention):
        return attention(layer, source, "attention_output")
    if isinstance(layer, (nn.LSTM, nn.GRU, nn.RNN)):
        return recurrent(layer, [source])
    if isinstance(layer, nn.Embedding):
        return {"weight": source["embeddings"]}
    if isinstance(layer, nn.PReLU):
        return {"weight": source["alpha"].reshape(-1)}
    if isinstance(layer, nn.Linear):
        return {"weight": source["kernel"].T, **found}
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return {"weight": source["kernel"].transpose(KERNEL[source["kernel"].ndim]), **found}
    if isinstance(layer, nn.modules.conv._ConvNd):
        name = next(name for name in ("depthwise_kernel", "kernel") if name in source)
        is_depthwise = layer.groups > 1 and source[name].shape[-2] == layer.groups and layer.in_channels == layer.groups
        return {"weight": depthwise(source[name]) if is_depthwise else convolution(source[name]), **found}
    found = norm(layer, source.get("gamma"), source.get("beta"))
    if "moving_mean" in source:
        found |= {"running_mean": source["moving_mean"], "running_var": source["moving_variance"]}
    return found


def convolution(kernel: np.ndarray) -> np.ndarray:
    """(k..., I, O) to (O, I, k...)."""
    return kernel.transpose(KERNEL[kernel.ndim])


def depthwise(kernel: np.ndarray) -> np.ndarray:
    """(k..., C, M) to (C x M, 1, k...): the multiplier runs fastest."""
    sizes = kernel.shape[:-2]
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(-1, 1, *sizes)


def attention(layer: nn.MultiheadAttention, source: Leaves, out: str) -> Leaves:
    """Query, key and value of (D, heads, width) into one matrix; the output of (heads, width, D)."""
    wide = layer.embed_dim
    parts = [source[f"{part}/kernel"].reshape(wide, wide).T for part in ("query", "key", "value")]
    biases = [source[f"{part}/bias"].reshape(-1) for part in ("query", "key", "value")]
    return {
        "in_proj_weight": np.concatenate(parts),
        "in_proj_bias": np.concatenate(biases),
        "out_proj.weight": source[f"{out}/kernel"].reshape(wide, wide).T,
        "out_proj.bias": source[f"{out}/bias"],
    }


def recurrent(layer: nn.RNNBase, sources: list[Leaves]) -> Leaves:
    """Kernels of (in, gates x units) for each layer and direction, in the order that PyTorch has them in."""
    found: Leaves = {}
    directions = ("", "_reverse") if layer.bidirectional else ("",)
    ends = [f"l{index}{way}" for index in range(layer.num_layers) for way in directions]
    for end, source in zip(ends, sources, strict=True):
        for leaf, name in (("kernel", "weight_ih_"), ("recurrent_kernel", "weight_hh_")):
            found[name + end] = gates(layer, source[leaf].T)
        bias = source["bias"]
        first, second = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
        found |= {"bias_ih_" + end: gates(layer, first), "bias_hh_" + end: gates(layer, second)}
    return found


def gates(layer: nn.RNNBase, value: np.ndarray) -> np.ndarray:
    """Keras has z, r, h for a GRU, where PyTorch has r, z, n; an LSTM has i, f, c, o in both."""
    if isinstance(layer, nn.GRU):
        update, reset, new = np.split(value, 3)
        return np.concatenate([reset, update, new])
    return value


def stacked(layer: Callable[[], nn.RNNBase], *names: str) -> Rule:
    """Several recurrent layers of the source into one of PyTorch."""
    return lambda arrays: recurrent(layer(), [unit(arrays, name) for name in names])


def flattened(name: str, *maps: int) -> Rule:
    """A dense layer after the flattening of maps of (height, width, channels), for a module that has channels first."""

    def rule(arrays: Arrays) -> Leaves:
        source = unit(arrays, name)
        kernel = source["kernel"]
        moved = np.moveaxis(kernel.reshape(*maps, -1), len(maps) - 1, 0)
        return {"weight": moved.reshape(kernel.shape).T, "bias": source["bias"]}

    return rule


def leaf(name: str, source: str, change: Callable[[np.ndarray], np.ndarray] = lambda value: value) -> Rule:
    """One array of the source, changed, as the tensor `name`."""
    return lambda arrays: {name: change(arrays[source])}


def joined(*rules: Rule) -> Rule:
    """What several rules give for one layer."""
    return lambda arrays: {key: value for rule in rules for key, value in rule(arrays).items()}


def onnx(layer: nn.Module, source: Leaves) -> Leaves:
    """ONNX: as PyTorch, but for the kernels of products and the gates of recurrent nodes."""
    if isinstance(layer, nn.RNNBase):
        return onnx_recurrent(layer, source)
    if isinstance(layer, nn.PReLU):
        return {"weight": source["alpha"].reshape(-1)}
    if "scale" in source:
        found = {"weight": source["scale"], "bias": source["bias"]}
        return found | ({"running_mean": source["mean"], "running_var": source["var"]} if "mean" in source else {})
    found = {"bias": source["bias"]} if "bias" in source else {}
    return found | {"weight": source["kernel"].T if "kernel" in source else source["weight"]}


def onnx_recurrent(layer: nn.RNNBase, source: Leaves, level: int = 0) -> Leaves:
    """W, R and B of (directions, gates x units, ...) for one layer: i, o, f, c of an LSTM; z, r, h of a GRU."""
    order = {nn.LSTM: (0, 2, 3, 1), nn.GRU: (1, 0, 2), nn.RNN: (0,)}[type(layer)]

    def sorted_gates(value: np.ndarray) -> np.ndarray:
        parts = np.split(value, len(order))
        return np.concatenate([parts[index] for index in order])

    found = {}
    for way, end in enumerate(("", "_reverse")[: len(source["W"])]):
        first, second = np.split(source["B"][way], 2)
        values = {"weight_ih": source["W"][way], "weight_hh": source["R"][way], "bias_ih": first, "bias_hh": second}
        found |= {f"{name}_l{level}{end}": sorted_gates(value) for name, value in values.items()}
    return found


def flax(layer: nn.Module, source: Leaves) -> Leaves:
    """Flax: as Keras, but transposed kernels are flipped, and each gate has a part of its own."""
    if isinstance(layer, nn.MultiheadAttention):
        return attention(layer, source, "out")
    if isinstance(layer, nn.RNNBase):
        return flax_recurrent(layer, [source])
    if isinstance(layer, nn.Embedding):
        return {"weight": source["embedding"]}
    if "kernel" not in source:
        found = norm(layer, source.get("scale"), source.get("bias"))
        return found | ({"running_mean": source["mean"], "running_var": source["var"]} if "mean" in source else {})
    kernel, found = source["kernel"], {"bias": source["bias"]} if "bias" in source else {}
    if isinstance(layer, nn.Linear):
        return {"weight": kernel.T, **found}
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return {"weight": np.flip(kernel.transpose(2, 3, 0, 1), (2, 3)), **found}
    return {"weight": convolution(kernel), **found}


def flax_recurrent(layer: nn.RNNBase, sources: list[Leaves]) -> Leaves:
    """Cells with one dense part for each gate, for inputs (`ii`) and for the state (`hi`)."""
    names = "rzn" if isinstance(layer, nn.GRU) else "ifgo"
    units, ways = layer.hidden_size, 2 if layer.bidirectional else 1
    found = {}
    for index, source in enumerate(sources):
        end = f"l{index // ways}" + ("_reverse" if index % ways else "")
        for side, of in (("i", "ih"), ("h", "hh")):
            kernels = [source[f"{side}{gate}/kernel"].T for gate in names]
            biases = [source.get(f"{side}{gate}/bias", np.zeros(units)) for gate in names]
            found |= {f"weight_{of}_{end}": np.concatenate(kernels), f"bias_{of}_{end}": np.concatenate(biases)}
    return found


def paddle(layer: nn.Module, source: Leaves) -> Leaves:
    """PaddlePaddle: as PyTorch, but for dense layers of (in, out) and the names of running statistics."""
    if isinstance(layer, nn.RNNBase):
        return {leaf: source[leaf] for leaf in layer.state_dict()}
    if isinstance(layer, nn.PReLU):
        return {"weight": source["_weight"]}
    found = {"bias": source["bias"]} if "bias" in source else {}
    if "_mean" in source:
        found |= {"running_mean": source["_mean"], "running_var": source["_variance"]}
    return found | {"weight": source["weight"].T if isinstance(layer, nn.Linear) else source["weight"]}


def sklearn(layer: nn.Module, source: Leaves) -> Leaves:
    """scikit-learn: coefficients of (in, out)."""
    return {"weight": source["coef"].T, "bias": source["intercept"]}


def tensorflow(layer: nn.Module, source: Leaves) -> Leaves:
    """Names of TF1 and of modules written by hand: as Keras, by other words."""
    words = {"weights": "kernel", "w": "kernel", "biases": "bias", "b": "bias"}
    return keras(layer, {words.get(leaf, leaf): value for leaf, value in source.items()})


RULES: dict[str, Callable[[nn.Module, Leaves], Leaves]] = {
    "keras": keras,
    "tf_keras": keras,
    "onnx": onnx,
    "torch": torch_leaves,
    "flax": flax,
    "nnx": flax,
    "haiku": keras,
    "equinox": torch_leaves,
    "paddle": paddle,
    "sklearn": sklearn,
    "tensorflow": tensorflow,
}
