"""Digests of tensors and of code: what a thing is, not where it lies."""

from __future__ import annotations

import dis
import hashlib
import types
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


_WORDS = ((8, torch.int64), (4, torch.int32), (2, torch.int16), (1, torch.uint8))


def stored_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensors that hold its values: itself, or indices and values of a sparse one, which may be too large if dense.

    Example:
        >>> [part.tolist() for part in stored_parts(torch.eye(2).to_sparse())]
        [[[0, 1], [0, 1]], [1.0, 1.0]]
    """
    plain = tensor.detach()
    if plain.layout is torch.strided:
        return (plain,)
    if plain.layout is torch.sparse_coo:
        plain = plain.coalesce()
        return plain.indices(), plain.values()
    if plain.layout in (torch.sparse_csr, torch.sparse_bsr):
        return plain.crow_indices(), plain.col_indices(), plain.values()
    if plain.layout in (torch.sparse_csc, torch.sparse_bsc):
        return plain.ccol_indices(), plain.row_indices(), plain.values()
    return (plain.to_dense(),)


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and values, whatever the memory format and the device."""
    if tensor.layout is not torch.strided:
        texts = [f"{tensor.layout}{tuple(tensor.shape)}", *map(tensor_digest, stored_parts(tensor))]
        return hashlib.sha256(" ".join(texts).encode()).hexdigest()
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype}{tuple(plain.shape)}".encode()
    if plain.numel() == 0:
        return hashlib.sha256(head).hexdigest()
    # not numpy(), after which torch refuses to resize the memory: observers of a quantisation do
    data = np.from_dlpack(plain.reshape(-1).view(torch.uint8)).data
    return hashlib.sha256(head + hashlib.sha256(data).digest()).hexdigest()


def checksum(tensor: Tensor) -> tuple[int, ...]:
    """The sum over the bits of a tensor, and its size: quicker than a digest, and blind to swapped values."""
    if tensor.layout is not torch.strided:
        return sum(map(checksum, stored_parts(tensor)), ())
    plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    kind = next(kind for size, kind in _WORDS if plain.numel() % size == 0)
    return (tensor.numel(), int(plain.view(kind).sum(dtype=torch.int64)))


@lru_cache(maxsize=4096)
def code_digest(code: types.CodeType) -> str:
    """SHA-256 of what a function does: bytecode, names and constants, nested functions included."""
    constants = [_text(constant) for constant in code.co_consts if not _is_docstring(constant, code)]
    text = f"{code.co_name}{code.co_code.hex()}{code.co_names}{code.co_varnames}{constants}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(constant: Any) -> str:
    """A constant as text; that of a set has an order of its own in every process, so its members are sorted."""
    if isinstance(constant, types.CodeType):
        return code_digest(constant)
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_text, cast('frozenset[Any]', constant)))})"
    if isinstance(constant, tuple) and any(isinstance(part, (tuple, frozenset)) for part in constant):
        return f"({', '.join(map(_text, cast('tuple[Any, ...]', constant)))})"
    return repr(constant)


# A text that a comprehension or a generator begins with is a constant that code loads, no docstring: leaving it out
# gave two frozen parts that differ in it alone the same recipe key.
def _is_docstring(constant: Any, code: types.CodeType) -> bool:
    """Whether it stands first and no instruction loads it: comprehensions have none, and begin with any text."""
    if not isinstance(constant, str) or constant is not code.co_consts[0]:
        return False
    return not any(step.opcode in dis.hasconst and step.arg == 0 for step in dis.get_instructions(code))
