"""Settings of layers without weights: dropout, slopes, the variant of GELU, preparation of inputs, masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.interpreter.random_inputs import PREPARING
from frostline.porting.settings.setting import DIFFERS, UNKNOWN, Setting, described, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.readers.contract import SourceLayer

MASKS = ("mask_zero", "mask_value")  # settings of layers that mark padded steps
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def of_network(layers: Sequence[SourceLayer], model: nn.Module) -> Iterator[Setting]:
    """Compare the settings of the whole network.

    Args:
        layers: The layers of the file.
        model: The module.
    """
    rates = [float(one.config.get("rate", 0)) for one in layers if one.kind in ("Dropout", *_SPATIAL)]
    yield from _by_order("dropout", "p", _modules(model, _DROPOUT), rates, is_seen=False)
    slopes = [float(one.config.get("negative_slope", one.config.get("alpha", 0.3))) for one in layers
              if one.kind == "LeakyReLU"]  # fmt: skip
    leaky = _modules(model, (nn.LeakyReLU,))
    if leaky:
        yield from _by_order("slope", "negative_slope", leaky, slopes, is_seen=True)
    alphas = [float(one.config.get("alpha", 1.0)) if one.kind == "ELU" else 1.0 for one in layers
              if "elu" in (one.kind.lower(), one.config.get("activation"))]  # fmt: skip
    if elus := _modules(model, (nn.ELU,)):
        yield from _by_order("alpha", "alpha", elus, alphas, is_seen=True)
    if any(one.config.get("activation") == "gelu" for one in layers):
        for name, module in _modules(model, (nn.GELU,)):
            if module.approximate != "none":
                check = described(
                    name, "GELU", DIFFERS, f"approximate={module.approximate!r} in the module, exact in the file"
                ).check
                yield Setting(check, module, "approximate", "none")
    for one in layers:
        if one.kind in PREPARING:
            stated = {key: one.config[key] for key in ("scale", "offset") if key in one.config}
            text = f"the network of the file begins with {one.kind} {stated or ''}: the module must do this, or "
            yield described(
                one.name, "preparation of inputs", UNKNOWN, f"{text}its inputs must be prepared in this way"
            )
        if setting := _mask_of(one):
            text = "the network of the file skips padded steps: the module must skip them, too"
            yield described(one.name, setting, UNKNOWN, text, is_rare=True)
    norms = _modules(model, (nn.modules.batchnorm._BatchNorm,))
    if norms and any(one.kind == "BatchNormalization" for one in layers):
        text = f"{len(norms)} BatchNorm layers of PyTorch collect the unbiased variance, Keras the biased one: "
        yield described(
            norms[0][0], "variance in training", DIFFERS, f"{text}only further training is affected", is_seen=False
        )


def of_roundings(layers: Sequence[SourceLayer]) -> Iterator[Setting]:
    """That a graph of ONNX rounds the values between its layers to integers of 8 bits, which float modules do not.

    Args:
        layers: The nodes of the graph.
    """
    names = [one.name for one in layers if one.kind in _ROUNDING]
    if names:
        text = (
            f"the graph of the file rounds values to int8 or uint8 in {len(names)} places ({names[0]}, ...): unless "
            "the module does so, too, its outputs differ by these roundings; export the network before it is quantised"
        )
        yield described("the network", "quantisation", UNKNOWN, text)


_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear")
_SPATIAL = ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")


def _mask_of(layer: SourceLayer) -> str:
    """The setting by which a layer marks steps that later layers skip; empty if it marks none."""
    if layer.kind == "Masking":
        return MASKS[1]
    return MASKS[0] if layer.config.get("mask_zero") is True else ""


def _modules(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]


def _by_order(
    setting: str, attribute: str, found: list[tuple[str, nn.Module]], stated: list[float], *, is_seen: bool
) -> Iterator[Setting]:
    """Compare numbers of the file with attributes of modules, if both have the same count and order."""
    if len(found) == len(stated) and (len(set(stated)) == 1 or len(found) == 1):
        for (name, module), value in zip(found, stated, strict=True):
            yield number(name, setting, module, attribute, value, is_seen=is_seen)
    elif found or stated:
        own = ", ".join(f"{getattr(module, attribute):g}" for _, module in found) or "none"
        text = f"{own} in the module, {', '.join(f'{value:g}' for value in stated) or 'none'} in the file"
        same = [getattr(module, attribute) for _, module in found] == stated
        yield described("the network", setting, "agrees" if same else UNKNOWN, text, is_seen=is_seen)
