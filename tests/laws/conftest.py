"""Laws run on one thread: their tensors are tiny, and waking a second one costs six times the work.

Those about faults of a cache share a folder in memory, and shards as small as a batch.
"""

from pathlib import Path

import pytest
import torch

from exams.reliability.building import scratch
from frostline.caching.store import shard_writer


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_shards(monkeypatch):
    """Every batch is published as a shard of its own."""
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)


@pytest.fixture
def folder():
    """A folder for caches that are built many times."""
    with scratch() as name:
        yield Path(name)
