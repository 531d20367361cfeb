"""Proofs that held, kept beside the rows of their recipe: small files named by what a proof depends on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frostline.caching.keys import recipe_key
from frostline.caching.store.collector import collect_proofs
from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.io import make_folder, read_json
from frostline.core.new_files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from frostline.caching.part import Recipe
    from frostline.caching.store.sharing import Signer

PROOF_NAME = re.compile(r"[0-9a-f]{64}\.json")
_FORMAT = 1
_KIND = "proof"  # of what is signed
_MAX_BYTES = 2**20


class Proofs:
    """The proofs of the frozen parts whose rows a cache keeps.

    Args:
        root: The folder of the cache.
        signer: Signs what is kept, and leaves aside what it has not signed; None where there is no key.
    """

    def __init__(self, root: Path, signer: Signer | None = None) -> None:
        self.root, self._signer = root, signer

    def recall(self, part: Recipe, key: Mapping[str, str]) -> Mapping[str, float] | None:
        """The figures of the proof with exactly this key; None where there is none, or its file is not whole."""
        path = self._path(part, key)
        with suppress(CacheError):  # what cannot be read is proven again
            whole = read_json(path, max_bytes=_MAX_BYTES)
            figures = _figures(whole, key)
            if figures is None or not self._has_signed(whole):
                return None
            with suppress(OSError):  # the collector keeps what was used last
                io.call(os.utime, path)
            return figures
        return None

    def keep(self, part: Recipe, key: Mapping[str, str], figures: Mapping[str, float]) -> None:
        """Remember a proof that held; a full or read-only disk costs the next start its time, and nothing else."""
        content = {"key": dict(key), "figures": dict(figures)}
        whole = {"format": _FORMAT, "digest": _digest(content), "content": content}
        if self._signer is not None:
            whole["signature"] = self._signer.sign(_KIND, str(whole["digest"]))
        path = self._path(part, key)
        with suppress(CacheError):
            make_folder(path.parent)
            write_atomic(path, [json.dumps(whole).encode()])
            collect_proofs(path.parent, PROOF_NAME)

    def _has_signed(self, whole: dict[str, Any]) -> bool:
        signer = self._signer
        return signer is None or signer.has_signed(_KIND, str(whole["digest"]), whole.get("signature"))

    def _path(self, part: Recipe, key: Mapping[str, str]) -> Path:
        return self.root / recipe_key(part) / "proofs" / f"{_digest(dict(key))}.json"


def _figures(whole: Any, key: Mapping[str, str]) -> dict[str, float] | None:
    """The figures in a file, if it is whole and its key is this one to the letter."""
    try:
        content = whole["content"]
        is_whole = whole["format"] == _FORMAT and whole["digest"] == _digest(content) and content["key"] == dict(key)
        figures = content["figures"]
        are_numbers = all(isinstance(value, (int, float)) for value in figures.values())
    except (KeyError, TypeError, AttributeError):
        return None
    return figures if is_whole and are_numbers else None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
