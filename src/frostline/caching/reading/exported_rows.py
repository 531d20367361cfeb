"""Stored rows as one plain file, with the id of each: safetensors, or Parquet for tools that read tables.

Legend: N rows, V values of all rows together.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.reading.gather import Gatherer
from frostline.caching.store.manifest import read_newest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.ragged import shapes_name
from frostline.caching.store.shards import DTYPE_NAMES
from frostline.core import inputs as batches
from frostline.core.arguments import as_path
from frostline.core.errors import CacheError, DataError
from frostline.core.io import status
from frostline.core.new_files import check_new, write_atomic
from frostline.core.records import FrontierTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from frostline.caching.store.ragged import TargetSizes
    from frostline.caching.store.shards import Shards

ID = "id"
_CHUNK_BYTES = 2**24  # of all columns: an export needs little memory, whatever the size of the cache
_HEADER_BYTES = 8  # safetensors asks for data at a multiple of this
_WIDENED = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)  # Parquet: float32, to the bit


@dataclass(frozen=True)
class Exported:
    """The file that an export wrote.

    Attributes:
        path: Of the file.
        rows: Rows in it.
        bytes: Its size.
        columns: Names of what it holds.
        notes: What is not in it, and why.
    """

    path: str
    rows: int
    bytes: int
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.rows} rows ({self.bytes / 1e6:.1f} MB) in {self.path}: {', '.join(self.columns)}"
        return "\n".join([text, *self.notes])


@dataclass(frozen=True)
class Column:
    """One tensor of the file.

    Attributes:
        name: Of the tensor.
        dtype: Of its values.
        shape: (N, *shape of a row); (V,) where rows differ in size.
        rows: Gives the rows at some positions: (B, *shape of a row), or their values one behind the other.
        is_varying: Rows differ in size; the column `shapes_name(name)` has the shape of each.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    rows: Callable[[Tensor], Tensor]
    is_varying: bool = False


@dataclass
class Table:
    """Rows that can be written as a file.

    Attributes:
        num_rows: How many.
        columns: With a value for each row.
        shared: Tensors that are the same for all rows.
        about: Texts about the whole.
        notes: What is not in the table, and why.
    """

    num_rows: int
    columns: list[Column] = field(default_factory=list[Column])
    shared: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    about: dict[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()

    def add(self, name: str, values: Tensor) -> None:
        """A column that lies in memory, (N, ...)."""
        own = values.detach().cpu()
        self.columns.append(Column(name, own.dtype, tuple(own.shape), lambda at: own.index_select(0, at)))

    def chunks(self) -> Iterator[Tensor]:
        """Positions of the rows, a few megabytes of rows at a time."""
        of_row = sum(math.prod(own.shape) * own.dtype.itemsize for own in self.columns) // max(1, self.num_rows)
        yield from torch.arange(self.num_rows, device="cpu").split(max(1, _CHUNK_BYTES // max(1, of_row)))


def stored_table(gatherer: Gatherer, about: dict[str, str], notes: tuple[str, ...] = ()) -> Table:
    """The rows of a gatherer with their ids, the sample keys."""
    gatherer.check_all_keys()
    table = Table(len(gatherer.keys), about=about, notes=notes)
    table.add(ID, gatherer.keys)
    samples = torch.arange(len(gatherer.keys), device="cpu")
    for tensor in gatherer.frontier:
        if tensor.shared:
            table.shared[tensor.name] = (gatherer.passed if tensor.is_input else gatherer.shared)[tensor.name]
        elif tensor.is_varying:
            shapes_N = gatherer.ragged(tensor.name).shapes_N
            size = int(shapes_N.prod(1).sum())
            table.columns.append(Column(tensor.name, tensor.dtype, (size,), _flat(gatherer, tensor), is_varying=True))
            table.add(shapes_name(tensor.name), shapes_N.int())
        else:
            shape = (len(samples), *tensor.shape)
            table.columns.append(
                Column(tensor.name, tensor.dtype, shape, lambda at, own=tensor: gatherer.rows_of(own, at))
            )
    return table


def recipe_table(shards: Shards) -> Table:
    """All rows of a recipe, by its shards, each sample once, in the order in which they were stored.

    Raises:
        CacheError: If the folder cannot be read, or holds no rows.
    """
    folder = shards.folder.parent
    manifest = read_newest(folder / "manifests", shards.sharing)[1]
    frontier = tuple(_tensor(own) for own in manifest.tensors)
    stored = tuple(own for own in frontier if not own.is_input)
    opened = open_folder(folder, shards, stored)
    rows = opened.rows()
    if not len(rows):
        raise CacheError(
            what="There are no rows to export.", where=str(folder), received="; ".join(opened.notes) or "no shards",
            do="fill the cache first, or export another recipe: `frostline cache ls` lists them.",
        )  # fmt: skip
    keys = rows.keys_of(np.setdiff1d(np.arange(len(rows)), rows.doubles()[0])).view(np.uint8)
    notes = tuple(opened.notes)
    if len(stored) < len(frontier):
        names = ", ".join(own.name for own in frontier if own.is_input)
        notes = (*notes, f"not among the rows: {names}; CachedDataset.export writes inputs of the head and targets")
    about = {"recipe": folder.name, "storage": manifest.storage, "error": f"{manifest.error:.3g}"}
    return stored_table(Gatherer(rows, keys, stored, opened.shared(), {}), about, notes)


def add_targets(table: Table, targets: Any, sizes: TargetSizes | None, views: int) -> None:
    """Columns of the targets, `target` or `target.NAME`, and of the view of each row where there are several."""
    for name, values in batches.leaves(targets).items():
        own = "target" if isinstance(targets, Tensor) else f"target.{name}"
        table.add(own, values)
        if sizes is not None and (of_each := sizes.of(name)) is not None:
            table.add(shapes_name(own), of_each)
    if views > 1:
        table.add("view", torch.arange(table.num_rows) // (table.num_rows // views))


def write_table(table: Table, path: Any, call: str) -> Exported:
    """Write a table as the file type that its name ends with; nothing is replaced.

    Raises:
        DataError: If the ending is another one, something stands there, or the type cannot hold a column.
        CacheError: If the file cannot be written.
    """
    own = as_path(call, "path", path)
    write = {".safetensors": _safetensors, ".parquet": _parquet}.get(own.suffix.lower())
    if write is None:
        raise DataError(
            what="Rows are exported as safetensors or Parquet.", where=f"{call}(path=...)",
            received=f"a name that ends with {own.suffix!r}", do="pass a path like features.safetensors.",
        )  # fmt: skip
    check_new(own, f"{call}(path=...)")
    for column in table.columns:
        if column.dtype not in DTYPE_NAMES or (write is _parquet and column.dtype.is_complex):
            raise DataError(
                what=f"A file of this type cannot hold {column.dtype}.", where=f"{call}(path=...), {column.name}",
                received=str(own), do="change the dtype in the dataset, or pass a path like features.safetensors.",
            )  # fmt: skip
    notes = table.notes
    if write is _parquet and table.shared:
        notes = (*notes, f"not in a table of rows, since all share one: {', '.join(table.shared)}")
    write_atomic(own, write(table, call))
    written = status(own)
    names = [column.name for column in table.columns] + ([] if write is _parquet else list(table.shared))
    return Exported(str(Path(own).absolute()), table.num_rows, written.st_size if written else 0, tuple(names), notes)


def _tensor(entry: Any) -> FrontierTensor:
    """A frontier tensor as a manifest lists it.

    Raises:
        CacheError: If it is none.
    """
    try:
        name, shape, dtype, shared = entry
        own = {str(one): one for one in DTYPE_NAMES}[dtype]
        size = 0 if shared else math.prod(max(axis, 0) for axis in shape) * own.itemsize
        return FrontierTensor(str(name), tuple(int(axis) for axis in shape), own, size, bool(shared))
    except (ValueError, TypeError, LookupError) as error:
        raise CacheError(
            what="A manifest lists a tensor that this version does not know.", where="frostline cache export",
            received=f"{entry!r}"[:200], do="fill the cache again with this version, then export.",
        ) from error  # fmt: skip


def _flat(gatherer: Gatherer, tensor: Any) -> Callable[[Tensor], Tensor]:
    """Gives the values of rows one behind the other, each at its own size."""
    return lambda at: torch.cat([gatherer.rows_of(tensor, one).reshape(-1) for one in at.split(1)])


def _safetensors(table: Table, call: str) -> Iterator[bytes | memoryview]:
    """The file: each tensor whole, behind a header of JSON."""
    del call
    everything = [(own.name, own.dtype, own.shape) for own in table.columns]
    everything += [(name, own.dtype, tuple(own.shape)) for name, own in table.shared.items()]
    entries: dict[str, Any] = {"__metadata__": table.about}
    offset = 0
    for name, dtype, shape in everything:
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % _HEADER_BYTES)
    yield len(text).to_bytes(8, "little") + text
    for column in table.columns:
        for at in table.chunks():
            yield _data(column.rows(at))
    for own in table.shared.values():
        yield _data(own)


def _data(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


class _Sink(io.RawIOBase):
    """Keeps what a writer of Parquet writes until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since."""
        whole, self._parts = b"".join(self._parts), []
        return whole


def _parquet(table: Table, call: str) -> Iterator[bytes]:
    """The file: a row group of a few megabytes after the other; ids are hexadecimal texts.

    Raises:
        DataError: If pyarrow is not installed.
    """
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise DataError(
            what="Writing Parquet needs pyarrow.", where=f"{call}(path=...)", received=str(error),
            do="pip install 'frostline[parquet]'; or pass a path like features.safetensors, which needs no package.",
        ) from error  # fmt: skip
    shapes = {own.name: list(own.shape[1:]) for own in table.columns if not own.is_varying and own.name != ID}
    about = {**table.about, "shapes": json.dumps(shapes)}
    sink, writer = _Sink(), None
    for at in table.chunks():
        group = arrow.table({own.name: _arrow(arrow, own, at, table) for own in table.columns})
        group = group.replace_schema_metadata(about)
        writer = writer or parquet.ParquetWriter(sink, group.schema)
        writer.write_table(group)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


def _arrow(arrow: Any, column: Column, at: Tensor, table: Table) -> Any:
    """The rows at these positions as a column of Arrow: numbers, or lists of numbers."""
    rows = column.rows(at)
    if column.name == ID:
        return arrow.array([bytes(key).hex() for key in rows.numpy()])
    flat = (rows.float() if column.dtype in _WIDENED else rows).reshape(-1)
    values = arrow.array(flat.numpy())
    if not column.is_varying and len(column.shape) == 1:
        return values
    if column.is_varying:
        shapes = next(own for own in table.columns if own.name == shapes_name(column.name)).rows(at)
        counts = shapes.long().prod(1)
    else:
        counts = torch.full((len(at),), math.prod(column.shape[1:]))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).int()
    return arrow.ListArray.from_arrays(arrow.array(offsets.numpy()), values)
