"""How builders that fill one cache at once share the work: rows that all of them have computed / rows needed.

The frozen part waits in place of computing, so that builders beside each other are as fast as on a machine with a core
for each. Rows are counted when they are handed to the writer, in a file: those of a builder that is killed count too.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import frostline as fl
from exams.reliability.building import Part, Samples, child, scratch, wait, wrong_rows
from frostline.caching.store import shard_writer

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor


MOST_DOUBLE = 1.10
_SHARD_SECONDS = shard_writer._SHARD_SECONDS  # as it is before other parts make shards small


def shares(samples: int = 800, row_s: float = 0.01) -> int:
    """Print the shares on a disk and in stores; returns how many are beyond a tenth of double work.

    Args:
        samples: Of the dataset.
        row_s: Seconds of one row.
    """
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from helpers_s3 import s3_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    shard_writer._SHARD_SECONDS = _SHARD_SECONDS
    found: list[tuple[str, float]] = []
    for keys in (True, False):
        for processes, killed in ((1, 0), (2, 0), (4, 0), (8, 0), (2, 1), (8, 1)):
            found.append((
                f"{processes} processes of one machine, {killed} killed, {'keys' if keys else 'no keys'}",
                shares_on_a_disk(processes, samples, row_s, killed, has_keys=keys),
            ))  # fmt: skip
            print(f"shares: {found[-1][0]}: {found[-1][1]:.3f} rows computed for each that is needed", flush=True)
    for machines in (2, 4):
        found.append((f"{machines} machines, a store in memory",
                      shares_in_a_store(f"memory://shares-{machines}", {}, machines, samples, row_s)))  # fmt: skip
        print(f"shares: {found[-1][0]}: {found[-1][1]:.3f}", flush=True)
    with s3_server() as (_, options):
        for machines, killed in ((2, 0), (4, 0), (2, 1), (4, 1)):
            url = f"s3://bucket/shares-{machines}-{killed}"
            found.append((f"{machines} machines, an S3 server, {killed} killed",
                          shares_in_a_store(url, options, machines, samples, 2 * row_s, killed)))  # fmt: skip
            print(f"shares: {found[-1][0]}: {found[-1][1]:.3f}", flush=True)
    # what a killed builder had not published is no double work, and is computed again
    return sum(share > MOST_DOUBLE for text, share in found if " 0 killed" in text or "memory" in text)


class SlowPart(Part):
    """As `Part`, but each row takes so many seconds.

    Args:
        row_s: Seconds.
    """

    def __init__(self, row_s: float) -> None:
        self.row_s = row_s

    def extract(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, WIDTH) -> (B, WIDTH), and the mask."""
        time.sleep(len(inputs["x"]) * self.row_s)
        return super().extract(inputs)


class ByContent(Samples):
    """The samples without keys of their own: these follow from the items, all of which are read."""

    sample_key = target = fingerprint = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        if name in ("sample_key", "target", "fingerprint"):
            raise AttributeError(name)
        return super().__getattribute__(name)


@contextmanager
def counted(log: Path) -> Generator[None]:
    """Inside, rows that this process hands to a writer are counted in a file."""
    real = shard_writer.ShardWriter.add

    def add(writer: Any, keys: Tensor, rows: dict[str, Tensor]) -> None:
        with log.open("a") as file:
            file.write(f"{len(keys)}\n")
        real(writer, keys, rows)

    shard_writer.ShardWriter.add = add
    try:
        yield
    finally:
        shard_writer.ShardWriter.add = real


def num_counted(log: Path) -> int:
    """All that was counted in the file."""
    return sum(map(int, log.read_text().split()))


def shares_on_a_disk(processes: int, samples: int, row_s: float, killed: int = 0, *, has_keys: bool = True) -> float:
    """Rows computed / rows needed, of processes of one machine.

    Args:
        processes: That begin at once.
        samples: Of the dataset, the same for all.
        row_s: Seconds of one row.
        killed: So many of them die after a quarter to three quarters of their share.
        has_keys: The dataset offers keys.
    """
    with scratch() as name:
        root, log, numbers = Path(name) / "cache", Path(name) / "rows.txt", range(samples)
        data = (Samples if has_keys else ByContent)(numbers)

        def build() -> int:
            with counted(log):
                done = fl.FeatureCache(root).fill(SlowPart(row_s), data, batch_size=8, progress=False)
            return wrong_rows(done, numbers)

        children = [child(build) for _ in range(processes)]
        for process in children[:killed]:
            time.sleep(samples * row_s / processes * random.uniform(0.25, 0.75) / killed)
            os.kill(process, signal.SIGKILL)
        assert [wait(process) for process in children[killed:]] == [0] * (processes - killed)
        return num_counted(log) / samples


def shares_in_a_store(url: str, options: dict[str, Any], machines: int, samples: int, row_s: float,
                      killed: int = 0) -> float:  # fmt: skip
    """Rows computed / rows needed, of machines that share nothing but a store: each has copies of its own.

    Args:
        url: Of an empty folder; a store in memory has threads for machines.
        options: For its backend.
        machines: That begin at once.
        samples: Of the dataset.
        row_s: Seconds of one row.
        killed: As on a disk; not with threads.
    """
    numbers = range(samples)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "rows.txt"

        def build(number: int) -> int:
            cache = fl.FeatureCache(url, storage_options=options, local_folder=Path(name) / str(number))
            done = cache.fill(SlowPart(row_s), Samples(numbers), batch_size=8, progress=False)
            return wrong_rows(done, numbers)

        if url.startswith("memory:"):
            with counted(log):
                wrong = [threading.Thread(target=build, args=(number,)) for number in range(machines)]
                for thread in wrong:
                    thread.start()
                for thread in wrong:
                    thread.join()
            return num_counted(log) / samples

        def counted_build(number: int) -> int:
            with counted(log):
                return build(number)

        children = [child(lambda number=number: counted_build(number)) for number in range(machines)]
        for process in children[:killed]:
            time.sleep(samples * row_s / machines * 0.5)
            os.kill(process, signal.SIGKILL)
        assert [wait(process) for process in children[killed:]] == [0] * (machines - killed)
        return num_counted(log) / samples
