"""Digests of a file and of all that is read for it, taken in a thread of their own while the arrays are read."""

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
    """The digests of a file, which cost no time of their own: SHA-256 runs beside Python.

    Args:
        file: Open for as long as the context is; after an error its digest is given up.

    Yields:
        A function that waits for the SHA-256 of the file, and for that of each of its parts by name: files that are
        read for it only later are among them. It raises `PortError` if one of them is no longer what was read.
    """
    is_over = Event()
    with ThreadPoolExecutor(max_workers=1) as worker:
        whole = worker.submit(file.digest, is_over)
        begun = {name: worker.submit(file.digest_of_part, name, is_over) for name in sorted(file.parts)}

        def found() -> tuple[str, dict[str, str]]:
            waiting = {name for name, one in reversed(begun.items()) if one.cancel()}  # this thread has nothing to do
            own = {name: file.digest_of_part(name) for name in waiting | (file.parts.keys() - begun.keys())}
            parts = {name: own[name] if name in own else begun[name].result() for name in sorted(file.parts)}
            file.check_parts()
            return whole.result(), parts

        try:
            yield found
        finally:
            is_over.set()
