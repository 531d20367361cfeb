"""The lower layers of another network, or of a file of weights, into this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from torch import Tensor, nn

from frostline.core.arguments import as_name, as_path
from frostline.core.errors import DataError, PortError
from frostline.porting.readers.formats import open_source
from frostline.transfer import reuse as reuse_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frostline.core.records import ReuseSummary
    from frostline.porting.readers.contract import SourceTensor

_EXTRA = "_extra_state"  # torch's name for what a module keeps beside its tensors
OURS = ("torch", "numpy")  # whose names and layouts can be those of a module


def reuse(
    source: nn.Module | Mapping[str, Tensor] | str | Path,
    target: nn.Module,
    *,
    through: str | None = None,
    names: Iterable[str] | None = None,
    key: str | None = None,
    prefix: str | None = None,
) -> ReuseSummary:
    """Copy the lower layers of `source` into `target`, by name and shape.

    Args:
        source: A module, its state dict, or the path of a file of PyTorch's weights: safetensors, one file or an index
            of shards; what `torch.save` wrote; TorchScript. It is read as data: no code of it is run. Files of other
            frameworks have other names and layouts: `frostline.port` takes them.
        target: The model that takes them, changed in place; nothing is changed if an error is raised.
        through: A layer of `target`: only what is registered up to and including it is copied. None: everything.
        names: Copy exactly these tensors of the range.
        key: The entry of the file that holds the weights, such as `ema` or `nets.generator`, or what the names of the
            weights begin with; None looks under the usual names (`state_dict`, `model`, `model_ema`, ...).
        prefix: What the source's names begin with and the target's do not; None takes off the beginning without
            which most tensors fit (`module.`, `backbone.`, `model.encoder.`, ...), if a quarter of the names have it.
            What `torch.compile` and FSDP put into names is always taken out.

    Returns:
        What was copied, what the source does not have, and what did not fit. A tensor of another shape is listed,
        never cropped; a tensor of another dtype is converted.

    Raises:
        LayerNotFound: If `through` or a name is not in the target, nothing could be copied, or several parts of the
            source fit as well.
        PortError: If the file cannot be read, or its weights are not PyTorch's.
        DataError: If a weight that would be copied has no values, NaN or infinite ones.
    """
    key = as_name("reuse", "key", key) if key is not None else None
    if isinstance(source, nn.Module):
        return reuse_tensors(source, target, through=through, names=names, prefix=prefix)
    if _is_state(source):
        held = {name: own for name, own in source.items() if not name.endswith(_EXTRA)}
        return reuse_tensors(held, target, through=through, names=names, prefix=prefix, place="the state dict")
    if not isinstance(cast("object", source), (str, Path)):
        raise DataError(
            what="reuse takes a model, or the path of a file of weights, as its source.",
            where="reuse(source=...)", received=f"a value of type {type(source).__name__}",
            do="pass the model itself, its state dict, or the path of a file; of a checkpoint in memory the part that "
            "holds the weights, such as checkpoint['state_dict'].",
        )  # fmt: skip
    path = as_path("reuse", "source", source)
    with open_source(path, key) as (found, _):
        if found.framework not in OURS:
            raise PortError(
                what="The file holds the weights of another framework, whose names and layouts differ.",
                where=str(path), received=found.format, do=f"frostline.port({str(path)!r}, model).",
            )  # fmt: skip
        values = {_name(tensor, key): tensor.load() for tensor in found.tensors}
    return reuse_tensors(values, target, through=through, names=names, prefix=prefix, place=str(path), told=found.notes)


def _is_state(source: Any) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether this is a state dict: tensors by name, beside what modules keep as extra state."""
    if not isinstance(source, Mapping):
        return False
    named = cast("Mapping[Any, Any]", source)
    return any(isinstance(own, Tensor) for own in named.values()) and all(
        isinstance(name, str) and (isinstance(own, Tensor) or name.endswith(_EXTRA)) for name, own in named.items()
    )


def _name(tensor: SourceTensor, key: str | None) -> str:
    """The name in the file; of an entry that was asked for, such as a moving average, the name in its network."""
    if key is None:
        return tensor.name
    unit = tensor.unit.replace("/", ".")
    return f"{unit}.{tensor.leaf}" if unit else tensor.leaf
