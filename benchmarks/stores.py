"""P4 beside others: random rows from LMDB, Lance, TensorStore, Arrow and HDF5, and from the public loader, in one run.

Every store holds the same rows and gives batches of 256 in the same random order, as tensors; the fastest way that its
documentation shows, with its file in the page cache. Rows per second, and rows per second of processor time (which
counts all threads of a store), each the median of rounds after a first one. A package that is not there is left out.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from p4_gather import Part
from torch.utils.data import TensorDataset

import frostline as fl

SIZES = (("2 KB", 1, 50_000), ("100 KB", 50, 4_000))
BATCH, ROUNDS = 256, 5
Gather = Callable[[np.ndarray], torch.Tensor]


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Rows per second of each store and of the loader, and the loader over the best of the others."""
    del device
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "rows of a batch": BATCH}
    for name, repeats, count in SIZES:
        count = count // 20 if is_quick else count
        dataset = TensorDataset(torch.randn(count, 512), torch.zeros(count, dtype=torch.long))
        rows = dataset.tensors[0].repeat(1, repeats)
        with tempfile.TemporaryDirectory() as folder:
            data = fl.FeatureCache(f"{folder}/cache").fill(Part(repeats), dataset, progress=False)
            loader = data.loader(BATCH, shuffle=True)
            passes: dict[str, Callable[[], int]] = {"the public loader": lambda loader=loader: _passed(loader)}
            passes["index_select in memory"] = lambda rows=rows: _gathered(rows, partial(_selected, rows))
            for store, build in STORES.items():
                try:
                    gather = build(Path(folder) / store, rows)
                except ImportError as error:
                    figures[f"{store}, {name} rows"] = f"not measured: {error}"
                    continue
                at = np.array([3, 1, count - 1])
                assert torch.equal(gather(at), rows[torch.from_numpy(at)]), store
                passes[store] = lambda gather=gather, rows=rows: _gathered(rows, gather)
            rates = _rates(passes, 1 if is_quick else ROUNDS)
        for store, (wall, processor) in rates.items():
            figures[f"{store}, {name} rows, rows/s"] = wall
            figures[f"{store}, {name} rows, rows/s of processor time"] = processor
        others = [own for store, own in rates.items() if store in STORES]
        if others:
            for at, what in enumerate(("", ", processor time")):
                best = max(own[at] for own in others)
                figures[f"the public loader / the best of the others, {name} rows{what}"] = (
                    rates["the public loader"][at] / best
                )
    return figures


def _rates(passes: dict[str, Callable[[], int]], rounds: int) -> dict[str, tuple[float, float]]:
    """(rows/s, rows/s of processor time) of each, all in turn in every round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, run_once in passes.items():
            wall, processor = time.perf_counter(), time.process_time()
            count = run_once()
            if number:  # the first fetches pages and fills caches
                found[name].append((count / (time.perf_counter() - wall), count / (time.process_time() - processor)))
    return {name: tuple(statistics.median(own) for own in zip(*rates, strict=True)) for name, rates in found.items()}  # pyright: ignore


def _selected(rows: torch.Tensor, at: np.ndarray) -> torch.Tensor:
    return rows.index_select(0, torch.from_numpy(at))


def _passed(loader: Any) -> int:
    count = 0
    for _, target in loader:
        count += len(target)
    return count


# A pass of the slow ones takes a minute: they get a part of it.
def _gathered(rows: torch.Tensor, gather: Gather) -> int:
    order, count, end = np.random.default_rng(0).permutation(len(rows)), 0, time.perf_counter() + 4.0
    for first in range(0, len(order), BATCH):
        count += len(gather(order[first : first + BATCH]))
        if time.perf_counter() > end:
            break
    return count


def _lmdb(path: Path, rows: torch.Tensor) -> Gather:
    import lmdb

    store = lmdb.open(str(path), map_size=4 * rows.nbytes + 2**24, readahead=False, meminit=False)
    with store.begin(write=True) as transaction:
        for at, row in enumerate(rows.numpy()):
            transaction.put(at.to_bytes(8, "big"), row.tobytes())
    reading = store.begin(buffers=True)
    width, dtype = rows.shape[1], np.float32

    def gather(at: np.ndarray) -> torch.Tensor:
        out = np.empty((len(at), width), dtype)
        for to, index in enumerate(at.tolist()):
            out[to] = np.frombuffer(reading.get(index.to_bytes(8, "big")), dtype)
        return torch.from_numpy(out)

    return gather


def _arrow_table(rows: torch.Tensor) -> Any:
    import pyarrow

    values = pyarrow.array(rows.numpy().reshape(-1))
    return pyarrow.table({"row": pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])})


def _arrow(path: Path, rows: torch.Tensor) -> Gather:
    import pyarrow

    table, width = _arrow_table(rows), rows.shape[1]
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)  # one batch: rows of several are slower to take
    mapped = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()

    def gather(at: np.ndarray) -> torch.Tensor:
        taken = mapped.take(pyarrow.array(at)).column("row").combine_chunks()
        return torch.from_numpy(taken.flatten().to_numpy().reshape(-1, width).copy())

    return gather


def _lance(path: Path, rows: torch.Tensor) -> Gather:
    import lance

    dataset, width = lance.write_dataset(_arrow_table(rows), str(path)), rows.shape[1]

    def gather(at: np.ndarray) -> torch.Tensor:
        taken = dataset.take(at.tolist()).column("row").combine_chunks()
        return torch.from_numpy(taken.flatten().to_numpy().reshape(-1, width).copy())

    return gather


def _tensorstore(path: Path, rows: torch.Tensor) -> Gather:
    import tensorstore

    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)},
            "metadata": {"compressor": None, "chunks": [max(1, 2**20 // (4 * rows.shape[1])), rows.shape[1]]},
            "context": {"cache_pool": {"total_bytes_limit": 2 * rows.nbytes + 2**20}}}  # fmt: skip
    store = tensorstore.open(spec, create=True, dtype=tensorstore.float32, shape=list(rows.shape)).result()
    store[...] = rows.numpy()
    return lambda at: torch.from_numpy(np.asarray(store[at].read().result()))


def _hdf5(path: Path, rows: torch.Tensor) -> Gather:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("rows", data=rows.numpy(), chunks=(max(1, 2**16 // (4 * rows.shape[1])), rows.shape[1]))
    own = h5py.File(path, "r", rdcc_nbytes=2 * rows.nbytes + 2**20)["rows"]

    def gather(at: np.ndarray) -> torch.Tensor:
        by_place = np.argsort(at)  # it takes positions in rising order only
        out = np.empty((len(at), rows.shape[1]), np.float32)
        out[by_place] = own[at[by_place]]
        return torch.from_numpy(out)

    return gather


STORES: dict[str, Callable[[Path, torch.Tensor], Gather]] = {
    "LMDB": _lmdb, "Lance": _lance, "TensorStore": _tensorstore, "Arrow": _arrow, "HDF5": _hdf5,
}  # fmt: skip
