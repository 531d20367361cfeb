"""Manifests: numbered lists of shards; the newest whole one counts."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.caching.shards import SHARD_NAME
from frostline.core.errors import CacheError
from frostline.core.io import publish_new, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_FORMAT = 1
# Training and validation data share a recipe, and so do folds; older snapshots cost a second run some reading.
_KEPT_SNAPSHOTS = 8
_NAME = re.compile(r"\d{8}\.json")


@dataclass(frozen=True)
class Manifest:
    """What a recipe's folder holds.

    Attributes:
        shards: Names of the shards with rows, in the order in which they were published.
        rows: Rows of each.
        shared: Name of the shard with the shared tensors, or None.
        snapshots: Names of the shards with keys and targets of the datasets that were filled last, newest last.
        tensors: [name, shape, dtype, shared] of each frontier tensor.
        written_by: Versions of the libraries, for people.
    """

    shards: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    shared: str | None = None
    snapshots: tuple[str, ...] = ()
    tensors: tuple[Any, ...] = ()
    written_by: str = ""

    def names(self) -> tuple[str, ...]:
        """Every shard that is needed."""
        return (*self.shards, *((self.shared,) if self.shared else ()), *self.snapshots)


def read_newest(folder: Path) -> tuple[int, Manifest, tuple[str, ...]]:
    """(number, manifest, notes): the newest manifest that is whole; torn ones are passed over, and said.

    Raises:
        CacheError: If the manifest was written by a newer version of Frostline.
    """
    notes: list[str] = []
    numbers = _numbers(folder)
    for number in reversed(numbers):
        path = folder / f"{number:08d}.json"
        try:
            return numbers[-1], _parse(path), tuple(notes)
        except CacheError as error:
            if "newer version" in error.what:
                raise
            notes.append(f"{path.name} is not whole ({error.received}): the manifest before it is used")
    return (numbers[-1] if numbers else 0), Manifest(), tuple(notes)


def publish(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Publish the next manifest: what is there now, with this change; builders at work at once are merged."""
    while True:
        number, current, _ = read_newest(folder)
        versions = f"torch {torch.__version__}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
        changed = replace(change(current), written_by=versions)
        if publish_new(folder / f"{number + 1:08d}.json", [_encode(changed)]):
            return changed


def with_shard(manifest: Manifest, name: str, rows: int) -> Manifest:
    """The manifest with one shard more."""
    if name in manifest.shards:
        return manifest
    return replace(manifest, shards=(*manifest.shards, name), rows=(*manifest.rows, rows))


def without_shard(manifest: Manifest, name: str) -> Manifest:
    """The manifest without a shard that was set aside."""
    kept = [(shard, rows) for shard, rows in zip(manifest.shards, manifest.rows, strict=True) if shard != name]
    return replace(manifest, shards=tuple(s for s, _ in kept), rows=tuple(r for _, r in kept))


def with_merged(manifest: Manifest, names: Sequence[str], merged: str, rows: int) -> Manifest:
    """The manifest with one shard, with the rows of all of them in order, instead of several."""
    for name in names:
        manifest = without_shard(manifest, name)
    return with_shard(manifest, merged, rows)


def with_snapshot(manifest: Manifest, name: str, shared: str | None, tensors: tuple[Any, ...]) -> Manifest:
    """The manifest with this snapshot among the newest."""
    kept = manifest.snapshots if name in manifest.snapshots else (*manifest.snapshots, name)[-_KEPT_SNAPSHOTS:]
    return replace(manifest, snapshots=kept, shared=shared or manifest.shared, tensors=tensors)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.stem) for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _encode(manifest: Manifest) -> bytes:
    content = asdict(manifest)
    body = json.dumps(content, sort_keys=True)
    return json.dumps({"format": _FORMAT, "digest": _digest(body), "content": content}, indent=1).encode()


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _parse(path: Path) -> Manifest:
    whole = read_json(path)
    try:
        if whole["format"] > _FORMAT:
            raise CacheError(
                what="The cache was written by a newer version of Frostline.",
                where=str(path),
                received=f"format {whole['format']}; this version reads {_FORMAT}",
                do="upgrade frostline, or use another cache folder.",
            )
        content = whole["content"]
        if _digest(json.dumps(content, sort_keys=True)) != whole["digest"]:
            raise _torn(path, "content that does not have the digest in the file")
        manifest = Manifest(
            shards=tuple(content["shards"]), rows=tuple(content["rows"]), shared=content["shared"],
            snapshots=tuple(content["snapshots"]), tensors=tuple(content["tensors"]), written_by=content["written_by"],
        )  # fmt: skip
        are_ours = all(SHARD_NAME.fullmatch(name) for name in manifest.names())
        if not are_ours or len(manifest.rows) != len(manifest.shards):
            raise _torn(path, "names of shards that are not ours")
    except (KeyError, TypeError, AttributeError) as error:
        raise _torn(path, f"{type(error).__name__}: {error}") from error
    return manifest


def _torn(path: Path, received: str) -> CacheError:
    return CacheError(
        what="A manifest is not whole.", where=str(path), received=received,
        do="nothing: the manifest before it is used, and the next fill writes a new one.",
    )  # fmt: skip
