"""Sharded PyTorch checkpoints: an index (`pytorch_model.bin.index.json`) and the shards beside it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from frostline.porting.readers import state_dict, strict_json, torch_archive, torch_legacy
from frostline.porting.readers.contract import Source
from frostline.porting.readers.tensor_data import check_names
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
_ENDINGS = ('.bin"', '.pt"', '.pth"')
_MAX_SHARDS = 1_000


def claims(file: WeightFile) -> bool:
    """Whether the file is a JSON index of PyTorch shards."""
    start = file.start(1 << 16)
    if not start.lstrip().startswith(b"{") or b'"weight_map"' not in start:
        return False
    return any(ending.encode() in start for ending in _ENDINGS)


def read(file: WeightFile, key: str | None = None) -> Source:
    """The tensors of all shards, in the order of the index.

    Args:
        file: The index, beside its shards.
        key: The prefix of the wanted names, such as `ema`.

    Raises:
        PortError: If the index and the shards contradict each other, or a shard cannot be read.
    """
    whole = strict_json.parse(file, file.read_at(0, min(file.size, strict_json.MAX_BYTES + 1)))
    where = whole.get("weight_map") if isinstance(whole, dict) else None
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in cast("dict[str, Any]", where).values()):
        raise file.damaged("an index whose weight_map does not name a shard for each tensor")
    shards = list(dict.fromkeys(cast("dict[str, str]", where).values()))
    if len(shards) > _MAX_SHARDS:
        raise file.damaged(f"an index of {len(shards)} shards")
    found: dict[str, SourceTensor] = {}
    opened = ExitStack()  # keeps the shards open until the last tensor that loads from them is gone
    for shard in shards:
        for tensor in _tensors(opened.enter_context(neighbour(file, shard)), opened):
            if where.get(tensor.name) != shard:
                raise file.damaged(f"{tensor.name!r} in {shard!r}, in contradiction to the index"[:200])
            found[tensor.name] = tensor
    missing = [name for name in where if name not in found]
    if missing:
        raise file.damaged(f"{missing[0]!r} is in no shard"[:200])
    check_names(file, list(where))
    names = state_dict.named(file, list(where), key)
    tensors = tuple(replace(found[name], unit=unit, leaf=leaf) for name, (unit, leaf) in names.places.items())
    return Source("PyTorch weights in shards", "torch", tensors, dropped=names.dropped, notes=names.notes)


def _tensors(shard: WeightFile, opened: ExitStack) -> list[SourceTensor]:
    """The tensors of one shard."""
    reader = next((one for one in (torch_archive, torch_legacy) if one.claims(shard)), None)
    if reader is None:
        raise shard.refused(
            "A shard of the index is not a PyTorch file.", f"a file that begins with {shard.start(16)!r}",
            "fetch the index and all of its shards again.",
        )  # fmt: skip
    tensors = reader.read(shard, None).tensors
    return [replace(tensor, load=partial(_load, tensor, shard, opened)) for tensor in tensors]


def _load(tensor: SourceTensor, shard: WeightFile, opened: ExitStack) -> Tensor:
    del opened  # the reference keeps the shard open
    loaded = tensor.load()
    shard.check_unchanged()
    return loaded
