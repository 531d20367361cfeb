"""Digests of a file and of its parts, computed in a background thread while the arrays are read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.porting.readers.weight_file import WeightFile


@contextmanager
def digests_in_background(file: WeightFile) -> Generator[Callable[[], tuple[str, dict[str, str]]]]:
    """Compute the digests of a file in the background; hashlib releases the GIL, so this hardly delays the reader.

    Args:
        file: The file, which stays open inside the context. After an error the computation stops.

    Yields:
        A function that waits for the SHA-256 of the file and for that of each of its parts, by name. Parts that were
        opened inside the context are included. It raises `PortError` if one of the files has changed meanwhile.
    """
    is_over = Event()
    with ThreadPoolExecutor(max_workers=1) as worker:
        whole = worker.submit(file.digest, is_over)
        begun = {name: worker.submit(file.digest_of_part, name, is_over) for name in sorted(file.parts)}

        def found() -> tuple[str, dict[str, str]]:
            waiting = {
                name for name, one in reversed(begun.items()) if one.cancel()
            }  # computed here: this thread is idle otherwise
            own = {name: file.digest_of_part(name) for name in waiting | (file.parts.keys() - begun.keys())}
            parts = {name: own[name] if name in own else begun[name].result() for name in sorted(file.parts)}
            file.check_parts()
            return whole.result(), parts

        try:
            yield found
        finally:
            is_over.set()
