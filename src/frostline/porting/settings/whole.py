"""Settings that belong to no layer with weights: dropout, slopes, the kind of GELU, how inputs are prepared, masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.interpreter.samples import PREPARING
from frostline.porting.settings.setting import DIFFERS, UNKNOWN, Setting, number, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.readers.contract import SourceLayer

MASKS = ("mask_zero", "mask_value")  # settings of layers that tell padded steps
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def of_network(layers: Sequence[SourceLayer], model: nn.Module) -> Iterator[Setting]:
    """Settings of the whole network.

    Args:
        layers: Of the file.
        model: The module.
    """
    rates = [float(one.config.get("rate", 0)) for one in layers if one.kind in ("Dropout", *_SPATIAL)]
    yield from _by_order("dropout", "p", _modules(model, _DROPOUT), rates, is_seen=False)
    slopes = [float(one.config.get("negative_slope", one.config.get("alpha", 0.3))) for one in layers
              if one.kind == "LeakyReLU"]  # fmt: skip
    leaky = _modules(model, (nn.LeakyReLU,))
    if leaky:
        yield from _by_order("slope", "negative_slope", leaky, slopes, is_seen=True)
    if any(one.config.get("activation") == "gelu" for one in layers):
        for name, module in _modules(model, (nn.GELU,)):
            if module.approximate != "none":
                check = told(
                    name, "GELU", DIFFERS, f"approximate={module.approximate!r} in the module, exact in the file"
                ).check
                yield Setting(check, module, "approximate", "none")
    for one in layers:
        if one.kind in PREPARING:
            stated = {key: one.config[key] for key in ("scale", "offset") if key in one.config}
            text = f"the file's network begins with {one.kind} {stated or ''}: the module does that, or its inputs "
            yield told(one.name, "preparation of inputs", UNKNOWN, f"{text}have to be prepared so")
        if setting := _mask_of(one):
            text = "the file's network leaves out padded steps: the module has to do that, too"
            yield told(one.name, setting, UNKNOWN, text, is_rare=True)
    norms = _modules(model, (nn.modules.batchnorm._BatchNorm,))
    if norms and any(one.kind == "BatchNormalization" for one in layers):
        text = (
            f"{len(norms)} batch norms of PyTorch collect the unbiased variance, Keras the biased one, (n-1)/n of it: "
        )
        yield told(norms[0][0], "variance in training", DIFFERS, f"{text}only further training differs", is_seen=False)


_SPATIAL = ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")


def _mask_of(layer: SourceLayer) -> str:
    """The setting by which a layer marks steps that the layers behind it leave out; empty if it marks none."""
    if layer.kind == "Masking":
        return MASKS[1]
    return MASKS[0] if layer.config.get("mask_zero") is True else ""


def _modules(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]


def _by_order(
    setting: str, attribute: str, found: list[tuple[str, nn.Module]], stated: list[float], *, is_seen: bool
) -> Iterator[Setting]:
    """Numbers of the file beside modules, where the order of both cannot be mistaken."""
    if len(found) == len(stated) and (len(set(stated)) == 1 or len(found) == 1):
        for (name, module), value in zip(found, stated, strict=True):
            yield number(name, setting, module, attribute, value, is_seen=is_seen)
    elif found or stated:
        own = ", ".join(f"{getattr(module, attribute):g}" for _, module in found) or "none"
        text = f"{own} in the module, {', '.join(f'{value:g}' for value in stated) or 'none'} in the file"
        same = [getattr(module, attribute) for _, module in found] == stated
        yield told("the network", setting, "agrees" if same else UNKNOWN, text, is_seen=is_seen)
