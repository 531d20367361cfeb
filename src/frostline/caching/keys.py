"""Three identities, kept apart: the recipe of a row, the sample it belongs to, the content of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.disk_array import disk_array, row_type
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from frostline.caching.part import Recipe

KEY_BYTES = 16
_SCHEMA = 2
_AT_ONCE = 2**16  # keys that are made together


def recipe_key(part: Recipe) -> str:
    """The name under which the rows of a frozen part are kept: 32 hex digits.

    In it: the part's recipe, what is stored, how numbers are computed. Not in it: paths, times, order, size of the
    dataset, the head, versions of libraries.
    """
    tensors = [[t.name, list(t.shape), str(t.dtype), t.shared] for t in part.frontier]
    content = {"schema": _SCHEMA, "recipe": dict(part.recipe), "tensors": tensors, "numerics": _numerics()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[: 2 * KEY_BYTES]


def _numerics() -> list[Any]:
    """How float32 is multiplied."""
    try:
        return [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32]
    except RuntimeError:  # torch 2.9 and later, where somebody has written the newer settings: only these can be read
        backends: Any = torch.backends
        places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        return [place.fp32_precision for place in places]


def item_key(inputs: Any, index: int) -> bytes:
    """The key of a sample by its content: names, dtypes, shapes and bytes of the inputs as the dataset gives them.

    Raises:
        DataError: If the inputs hold something that has no bytes to compare.
    """
    digest = hashlib.sha256(b"item/1")
    _feed(digest, inputs, index)
    return digest.digest()[:KEY_BYTES]


def offered_keys(dataset: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The keys that a dataset itself offers, bound to its `fingerprint` (the deterministic preprocessing).

    Yields:
        (position of the first, (B, 16) keys) part by part.

    Raises:
        DataError: If the dataset offers no fingerprint, or a key that is not bytes.
    """
    count = len(dataset)
    for first in range(0, count, _AT_ONCE):
        joined = b"".join(_bound_keys(dataset, range(first, min(first + _AT_ONCE, count))))
        yield first, np.frombuffer(joined, np.uint8).reshape(-1, 2 * KEY_BYTES)[:, :KEY_BYTES]


def _bound_keys(dataset: Any, indices: Iterable[int]) -> Iterator[bytes]:
    """Digests of (fingerprint, key of a sample); what does not depend on the sample is hashed once."""
    fingerprint, key_of = getattr(dataset, "fingerprint", None), dataset.sample_key
    is_named = isinstance(fingerprint, str)
    start = hashlib.sha256(b"offered/1" + hashlib.sha256((fingerprint if is_named else "").encode()).digest())
    for index in indices:
        key = key_of(index)
        if type(key) is not bytes or not is_named:
            key = key.encode() if isinstance(key, str) else key
            if not isinstance(key, bytes) or not is_named:
                raise _no_key(index, key, fingerprint)
        digest = start.copy()
        digest.update(key)
        yield digest.digest()


def _no_key(index: int, key: Any, fingerprint: Any) -> DataError:
    return DataError(
        what="A dataset with sample_key must offer bytes, and a `fingerprint` of its preprocessing as text.",
        where=f"sample_key({index}) and fingerprint",
        received=f"{type(key).__name__} and {type(fingerprint).__name__}",
        do="return bytes that change with the sample, and set fingerprint to a text that names the transform.",
    )


def as_words(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Keys (N, 16) as two numbers each, (N, 2): compared, sorted and searched many times faster than bytes."""
    return np.ascontiguousarray(keys).view(np.uint64)


class NewKeys:
    """Finds the first sample of each key; it takes 6 to 12 bytes for each sample, on a disk where that is much.

    Args:
        keys: (N, 16) of the samples, which may become known one after the other.
        folder: On the disk.
    """

    def __init__(self, keys: NDArray[np.uint8], folder: Path | None = None) -> None:
        self._words = keys.view(np.uint64)
        size = 2 ** (3 * len(keys) // 2).bit_length()
        self._samples, self._mask = disk_array((size,), row_type(len(keys) + 1), folder), size - 1

    def add(self, index: int) -> bool:
        """Whether the key of this sample is one that no sample before had."""
        key = self._words[index]
        at = int(key[0]) & self._mask  # keys are digests: their bits are spread well
        while other := int(self._samples[at]):
            if (self._words[other - 1] == key).all():
                return False
            at = (at + 1) & self._mask
        self._samples[at] = index + 1
        return True


def _feed(digest: Any, value: Any, index: int) -> None:
    if isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_meta or value.is_nested):
        array = value.detach().cpu().contiguous()
        digest.update(f"tensor {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy() if array.numel() else b"")
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"array {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, (bool, int, float, str, bytes, np.generic)) or value is None:
        digest.update(f"{type(value).__name__} {value!r}".encode())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}".encode())
        for key in sorted(value, key=str):
            digest.update(f"key {key!r}".encode())
            _feed(digest, value[key], index)
    elif isinstance(value, (tuple, list)):
        digest.update(f"sequence {len(value)}".encode())
        for entry in value:
            _feed(digest, entry, index)
    else:
        raise DataError(
            what="A sample holds something that cannot be fingerprinted.",
            where=f"dataset[{index}]",
            received=batches.describe(value),
            do="return tensors, arrays, numbers or text; or let the dataset offer sample_key(i) and fingerprint.",
        )
