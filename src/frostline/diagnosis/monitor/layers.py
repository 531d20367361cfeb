"""The layers of a model as the monitor sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from frostline.diagnosis.rules.records import Layer

_KINDS: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("linear", (nn.Linear, nn.Bilinear)),
    ("convolution", (nn.modules.conv._ConvNd,)),
    ("recurrent", (nn.RNNBase, nn.RNNCellBase)),
    ("attention", (nn.MultiheadAttention,)),
    ("embedding", (nn.Embedding, nn.EmbeddingBag)),
    ("norm", (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)),
)
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardtanh: "hardtanh", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.LeakyReLU: "leaky_relu", nn.PReLU: "prelu", nn.ELU: "elu", nn.SELU: "selu", nn.CELU: "celu", nn.GELU: "gelu",
    nn.SiLU: "silu", nn.Mish: "mish", nn.Softplus: "softplus", nn.Hardswish: "hardswish", nn.Softsign: "softsign",
    nn.Hardsigmoid: "hardsigmoid", nn.Threshold: "threshold",
}  # fmt: skip
# Attributes that say how large a layer is: what it takes and gives, or one number.
_SIZES = (
    ("in_features", "out_features"), ("in_channels", "out_channels"), ("input_size", "hidden_size"),
    ("num_embeddings", "embedding_dim"),
)  # fmt: skip
_SIZE = ("num_features", "num_channels", "normalized_shape", "embed_dim")
RECTIFIERS = frozenset({"relu", "relu6", "threshold"})


@dataclass(frozen=True)
class Found:
    """A module that is watched, and its own parameters."""

    module: nn.Module
    layer: Layer
    parameters: tuple[nn.Parameter, ...]


def find_layers(model: nn.Module) -> list[Found]:
    """Modules with parameters of their own, and activations; tied parameters belong to the first that has them."""
    found: list[Found] = []
    taken: set[int] = set()
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        kind, activation = kind_of(module)
        own = [p for p in _parameters_of(module, kind) if id(p) not in taken]
        if not own and not activation and next(module.parameters(recurse=False), None) is None:
            continue
        taken.update(id(parameter) for parameter in own)
        is_frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
        layer = Layer(name or "(the model)", kind, activation, len(found), is_frozen, False, type_of(module))
        found.append(Found(module, layer, tuple(p for p in own if p.requires_grad)))
    return found


def _parameters_of(module: nn.Module, kind: str) -> list[nn.Parameter]:
    """Its own, and those that its own are computed from (`nn.utils.parametrizations`)."""
    own = list(module.parameters(recurse=kind == "attention"))
    if is_parametrized(module):
        own += cast("nn.ModuleDict", module.parametrizations).parameters()
    return own


def kind_of(module: nn.Module) -> tuple[str, str]:
    """(kind, name of the activation)."""
    activation = next((name for kind, name in _ACTIVATIONS.items() if type(module) is kind), "")
    if activation:
        return "activation", activation
    return next((kind for kind, types in _KINDS if isinstance(module, types)), "other"), ""


def type_of(module: nn.Module) -> str:
    """Class and sizes: `Linear, 784 to 64`; the class alone where it has none of the usual names."""
    kind = type(module).__name__
    for given, made in _SIZES:
        first, second = (getattr(module, name, None) for name in (given, made))
        if isinstance(first, int) and isinstance(second, int):
            return f"{kind}, {first} to {second}"
    size = next((size for name in _SIZE if isinstance(size := getattr(module, name, None), (int, tuple))), None)
    if isinstance(size, tuple):
        size = " x ".join(map(str, cast("tuple[Any, ...]", size)))
    return kind if size is None else f"{kind}, {size}"
