"""What a recipe's folder shares with others: a remote folder that holds the same files, and a key that signs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager


class RemoteFolder(Protocol):
    """The folder of a recipe in a store that cannot be mapped; the folder on the disk holds copies of its files."""

    def pull(self) -> list[str]:
        """Make the manifests on the disk those of the store; returns what was passed over."""
        ...

    def shard_names(self) -> set[str]:
        """The shards in the store."""
        ...

    def fetch(self, name: str) -> None:
        """Bring a shard onto the disk, if the store has it."""
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
        """Make room for a whole shard where the store holds a damaged one, or leave it there."""
        ...

    def lease(self) -> AbstractContextManager[None]:
        """Inside, nobody who cares about leases deletes in this folder."""
        ...


@dataclass(frozen=True)
class Sharing:
    """With whom the folder of a recipe is shared.

    Attributes:
        remote: The same folder in a store; None for a cache on this disk alone.
    """

    remote: RemoteFolder | None = None

    def __reduce__(self) -> tuple[type[Sharing], tuple[()]]:
        return Sharing, ()  # other processes read what is on the disk; secrets of a store stay here


ALONE = Sharing()
