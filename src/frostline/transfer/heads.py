"""A new output layer where the old one was."""

from __future__ import annotations

from typing import Any

from torch import nn

from frostline.core.arguments import as_count, check_model
from frostline.core.errors import DataError, LayerNotFound
from frostline.core.layers import check_initialized, resolve, unwrapped
from frostline.transfer.freezing import follow_train

_Output = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def replace_head(model: nn.Module, num_classes: int, *, name: str | None = None) -> nn.Module:
    """Replace the output layer of a model by a new, trainable one with `num_classes` outputs.

    It is found as timm's `reset_classifier`; else transformers' `classifier` or `score`; else torchvision's `fc`,
    `classifier`, `head` or `heads`; else the last linear layer or 1x1 convolution of an `nn.Sequential`.

    Args:
        model: The model, changed in place.
        num_classes: Outputs of the new layer.
        name: The output layer's qualified name, if it cannot be found or two could be meant.

    Returns:
        The new layer, on the old one's device and in its dtype, trainable even in a frozen model.

    Raises:
        LayerNotFound: If no output layer, or more than one, is found.
        DataError: If `num_classes` is not a whole number of 1 or more, or no multiple of the layer's groups.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
        >>> replace_head(model, 5)
        Linear(in_features=8, out_features=5, bias=True)
    """
    check_model("replace_head", model, needs=())
    num_classes = as_count("replace_head", "num_classes", num_classes)
    model, _ = unwrapped(model)
    check_initialized(model, "replace_head(model)")
    if name is None and callable(getattr(model, "reset_classifier", None)):
        return _reset_timm(model, num_classes)
    place = name if name is not None else _find(model)
    old = resolve(model, place)
    if not isinstance(old, _Output):
        inner = [f"{place}.{child}" for child, module in old.named_modules() if isinstance(module, _Output)]
        if not inner:
            raise _not_found(model, f"{place!r} is a {type(old).__name__}")
        place = inner[-1]
        old = resolve(model, place)
    new = _like(old, num_classes, place)
    parent, _, leaf = place.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
    _open_ancestors(model, place)
    _tell_config(model, num_classes)
    return new


def _reset_timm(model: nn.Module, num_classes: int) -> nn.Module:
    reset: Any = model.reset_classifier
    old = _classifier(model)
    reset(num_classes)
    new = _classifier(model)
    if old is not None:
        reference = next(old.parameters(), None)
        new.to(device=reference.device, dtype=reference.dtype) if reference is not None else None
    for parameter in new.parameters():
        parameter.requires_grad_(True)
    _open_ancestors(model, next(name for name, module in model.named_modules() if module is new))
    return new


def _classifier(model: nn.Module) -> Any:
    found: Any = getattr(model, "get_classifier")()  # noqa: B009 (timm's, not nn.Module's)
    return found[0] if isinstance(found, (tuple, list)) else found


def _find(model: nn.Module) -> str:
    if hasattr(model, "config"):
        names = [name for name in ("classifier", "score") if isinstance(getattr(model, name, None), nn.Module)]
    else:
        names = [
            name for name in ("fc", "classifier", "head", "heads") if isinstance(getattr(model, name, None), nn.Module)
        ]
        names = [name for name in names if any(isinstance(part, _Output) for part in getattr(model, name).modules())]
    if len(names) > 1:
        raise LayerNotFound(
            what="Two layers could be the output layer.",
            where=type(model).__name__,
            received=", ".join(repr(name) for name in names),
            do=f"name it: frostline.replace_head(model, num_classes, name={names[0]!r}).",
        )
    if names:
        return names[0]
    outputs = [name for name, module in model.named_modules() if _is_output(module)]
    if isinstance(model, nn.Sequential) and outputs:
        return outputs[-1]
    raise _not_found(model, f"a {type(model).__name__}")


def _is_output(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _like(old: nn.Module, num_classes: int, place: str) -> nn.Module:
    """A layer that computes as the old one does, with other outputs and new weights."""
    weight: Any = old.weight
    made: dict[str, Any] = {"bias": "bias" in _own_parameters(old), "device": weight.device, "dtype": weight.dtype}
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, num_classes, **made)
    assert isinstance(old, nn.modules.conv._ConvNd)
    if num_classes % old.groups:
        raise DataError(
            what="The outputs of the new layer cannot be shared out among its groups.",
            where="replace_head(num_classes=...)", received=f"{num_classes} outputs, {old.groups} groups in {place!r}",
            do=f"pass a multiple of {old.groups}, or put a layer without groups there.",
        )  # fmt: skip
    kind: Any = next(kind for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(old, kind))
    made |= {name: getattr(old, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    return kind(old.in_channels, num_classes, old.kernel_size, **made)


def _own_parameters(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


def _open_ancestors(model: nn.Module, place: str) -> None:
    """The modules above a new head hold a trainable layer now: they follow `train()` again."""
    parts = place.split(".")
    for at in range(len(parts) + 1):
        follow_train(model.get_submodule(".".join(parts[:at])))


def _tell_config(model: nn.Module, num_classes: int) -> None:
    config: Any = getattr(model, "config", None)
    if config is not None and hasattr(config, "num_labels"):
        config.num_labels = num_classes
    if hasattr(model, "num_labels"):
        model.num_labels = num_classes  # type: ignore[assignment]


def _not_found(model: nn.Module, received: str) -> LayerNotFound:
    outputs = [name for name, module in model.named_modules() if _is_output(module)]
    example = outputs[-1] if outputs else "fc"
    return LayerNotFound(
        what="Cannot find the output layer of the model.",
        where=type(model).__name__,
        received=received,
        do=f"name it: frostline.replace_head(model, num_classes, name={example!r}).",
    )
