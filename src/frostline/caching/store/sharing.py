"""What the folder of a recipe is shared by: a remote folder with the same files, and a key that signs them."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from frostline.core.arguments import as_path
from frostline.core.errors import DataError
from frostline.core.io import disk_errors, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from frostline.caching.store.claims import Claims
    from frostline.caching.store.mapped_shard import Shard

KEY_VARIABLE = "FROSTLINE_CACHE_KEY"
_KEY_ADVICE = (
    "make one outside of the cache, such as `openssl rand -out cache.key 32`, for those who share the cache alone."
)
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 16, 4096


class RemoteFolder(Protocol):
    """The folder of a recipe in a store that cannot be mapped; the folder on the disk holds copies of its files."""

    def pull(self) -> list[str]:
        """Copy the manifests of the store to the disk; returns a note for each that is not whole and was left out."""
        ...

    def shard_names(self) -> set[str]:
        """The shards in the store."""
        ...

    def fetch(self, name: str) -> None:
        """Bring a shard onto the disk, if the store has it."""
        ...

    def reserve(self, name: str) -> Shard | None:
        """A shard of which the keys alone are here; the rest is fetched before it is used. None: the store lacks it."""
        ...

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of the files in the folder of this kind, by name."""
        ...

    def push(self, name: str) -> None:
        """Write a shard from the disk to the store, if it is not there."""
        ...

    def publish(self, name: str, data: bytes, shards: tuple[str, ...]) -> None:
        """Write a manifest to the store, where these shards must be."""
        ...

    @property
    def text(self) -> str:
        """The address of the folder, without secrets."""
        ...

    def has_other_builders(self) -> bool:
        """Whether somebody else fills this recipe, or may do so."""
        ...

    def delete_dead(self, needed: set[str], at_once: Iterable[str] = ()) -> None:
        """Delete shards that are not needed: those that are old, and these at once."""
        ...

    def delete_object(self, kind: str, name: str) -> None:
        """Delete a file of the store, in the folder of this kind."""
        ...

    def set_aside(self, name: str) -> None:
        """Delete a damaged shard in the store, if no process can be writing it."""
        ...

    def claims(self) -> Claims:
        """What one builder claims here."""
        ...

    def lease(self) -> AbstractContextManager[None]:
        """A context in which other processes delete no files of this folder."""
        ...


class Signer:
    """Signs files of a cache with HMAC-SHA256, under a key that lies outside of the cache.

    Args:
        path: Of the file with the key.
        key: Its content.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path, self._key = path, key

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return _signer, (self._path,)  # another process reads the file: the key is never written anywhere

    def __repr__(self) -> str:
        return f"Signer({str(self._path)!r})"

    def sign(self, kind: str, text: str) -> str:
        """The signature of a text; one of another kind of file is no signature of this one."""
        return hmac.new(self._key, f"frostline {kind}\n{text}".encode(), hashlib.sha256).hexdigest()

    def has_signed(self, kind: str, text: str, signature: object) -> bool:
        """Whether this is the signature, compared in constant time."""
        return isinstance(signature, str) and hmac.compare_digest(self.sign(kind, text).encode(), signature.encode())


def signer_of(key_file: Any, root: Path) -> Signer | None:
    """The signer with the key in this file, or in that of the variable FROSTLINE_CACHE_KEY; None without either.

    Args:
        key_file: As `FeatureCache` takes it.
        root: The folder of the cache, in which no key may lie.

    Raises:
        DataError: If the key is too short, or lies in the cache.
        CacheError: If it cannot be read.
    """
    option = "FeatureCache(key_file=...)"
    if key_file is None:
        key_file, option = os.environ.get(KEY_VARIABLE) or None, KEY_VARIABLE
    if key_file is None:
        return None
    path = as_path("FeatureCache", "key_file", key_file)
    if path.absolute().is_relative_to(root) or path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            what="The key lies in the cache that it signs: who can write there has it.", where=option,
            received=str(path), do=_KEY_ADVICE,
        )  # fmt: skip
    return _signer(path)


def _signer(path: Path) -> Signer:
    with disk_errors("read the key in", path):
        try:
            found = path.resolve(strict=True)  # secrets are often mounted behind links
        except FileNotFoundError as error:
            raise DataError(
                what="There is no key at this path.", where=f"FeatureCache(key_file=...) or {KEY_VARIABLE}",
                received=str(path), do="correct the path, or get the key from those who share this cache. For a cache "
                f"that is not signed yet, {_KEY_ADVICE}",
            ) from error  # fmt: skip
        key = read_bytes(found, max_bytes=_MAX_KEY_BYTES)
    if len(key) < _MIN_KEY_BYTES:
        raise DataError(
            what="The key of the cache is too short to be one.", where=str(found),
            received=f"{len(key)} bytes, where at least {_MIN_KEY_BYTES} belong", do=_KEY_ADVICE,
        )  # fmt: skip
    return Signer(found, key)


@dataclass(frozen=True)
class Sharing:
    """The remote folder of a recipe, and the key of those who share it.

    Attributes:
        remote: The same folder in a store; None for a cache on this disk alone.
        signer: Signs what is written, and refuses what it has not signed; None trusts everybody who can write there.
    """

    remote: RemoteFolder | None = None
    signer: Signer | None = None

    def __reduce__(self) -> tuple[type[Sharing], tuple[()]]:
        return Sharing, ()  # other processes read what is on the disk; secrets of a store stay here


ALONE = Sharing()
