"""Inputs of a model, as people pass them: a batch, and everything that is nearly one.

Legend: B batch, D features.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from exams.fuzz.public.networks import D
from exams.fuzz.public.pools import Make, Pool, UserFault, constants

B = 4
Inputs = namedtuple("Inputs", ["input"])


def batch(count: int = B, width: int = D) -> Tensor:
    """(count, width), the same each time."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(3))


def _nested() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([batch(2), batch(3)])


def _inference() -> Tensor:
    with torch.inference_mode():
        return batch().clone()


def _graph() -> Tensor:
    return batch().requires_grad_() * 2


def _objects() -> Any:
    found = np.empty(B, dtype=object)
    found[:] = [np.zeros(2), "a", None, 3]
    return found


def _with(value: float) -> Tensor:
    x_BD = batch()
    x_BD[1, 2] = value
    return x_BD


def _raising() -> Any:
    yield batch()
    raise UserFault("batches")


TENSORS: dict[str, Make] = {
    "batch": lambda _: batch(),
    "two": lambda _: batch(2),
    "nine": lambda _: batch(9),
    "one sample": lambda _: batch(1),
    "no samples": lambda _: batch(0),
    "no axis": lambda _: torch.tensor(3.0),
    "one axis": lambda _: batch()[0],
    "three axes": lambda _: torch.zeros(B, 3, D),
    "images": lambda _: torch.zeros(B, 3, 8, 8),
    "too wide": lambda _: batch(B, D + 3),
    "no width": lambda _: batch(B, 0),
    "integers": lambda _: torch.arange(B * D).reshape(B, D) % 10,
    "bool": lambda _: batch() > 0,
    "uint8": lambda _: torch.zeros(B, D, dtype=torch.uint8),
    "half": lambda _: batch().half(),
    "bfloat16": lambda _: batch().bfloat16(),
    "float64": lambda _: batch().double(),
    "complex": lambda _: torch.complex(batch(), batch()),
    "sparse": lambda _: batch().to_sparse(),
    "csr": lambda _: _csr(),
    "quantised": lambda _: torch.quantize_per_tensor(batch(), 0.1, 0, torch.qint8),
    "nested": lambda _: _nested(),
    "meta": lambda _: batch().to("meta"),
    "wants gradients": lambda _: batch().requires_grad_(),
    "of a graph": lambda _: _graph(),
    "inference": lambda _: _inference(),
    "parameter": lambda _: nn.Parameter(batch()),
    "nan": lambda _: _with(float("nan")),
    "infinite": lambda _: _with(float("inf")),
    "huge": lambda _: batch() * 1e30,
    "zeros": lambda _: torch.zeros(B, D),
    "expanded": lambda _: torch.zeros(1, D).expand(B, D),
    "columns first": lambda _: batch(D, B).t(),
    "packed": lambda _: nn.utils.rnn.pack_padded_sequence(torch.zeros(B, 3, D), torch.tensor([3, 2, 2, 1]), True),
}


def _csr() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return batch().to_sparse_csr()


OTHERS: dict[str, Make] = {
    **constants(
        {
            "None": None,
            "text": "cat.png",
            "bytes": b"\0\1",
            "number": 3,
            "nan number": float("nan"),
            "empty tuple": (),
            "empty list": [],
            "empty dict": {},
            "texts": ["a", "b", "c", "d"],
            "numbers": [1.0, 2.0, 3.0],
            "class": Tensor,
            "function": len,
        }
    ),
    "tuple": lambda _: (batch(),),
    "list": lambda _: [batch()],
    "dict": lambda _: {"input": batch()},
    "ordered": lambda _: OrderedDict(input=batch()),
    "named": lambda _: Inputs(batch()),
    "with target": lambda _: (batch(), torch.arange(B) % 2),
    "two inputs": lambda _: (batch(), batch()),
    "other key": lambda _: {"pixels": batch()},
    "extra key": lambda _: {"input": batch(), "label": torch.arange(B) % 2, "name": ["a"] * B},
    "number keys": lambda _: {0: batch()},
    "nested dict": lambda _: {"input": {"x": batch()}},
    "dict of None": lambda _: {"input": None},
    "tuple of None": lambda _: (batch(), None),
    "unequal": lambda _: (batch(4), batch(3)),
    "rows": lambda _: list(batch()),
    "ragged": lambda _: [batch(4)[0], batch(4, 3)[0]],
    "numpy": lambda _: batch().numpy(),
    "numpy dict": lambda _: {"input": batch().numpy()},
    "numpy scalar": lambda _: np.float32(2),
    "objects": lambda _: _objects(),
    "generator": lambda _: (x for x in [batch()]),
    "raising": lambda _: _raising(),
    "loader": lambda _: DataLoader(TensorDataset(batch(8), torch.arange(8) % 2), 4),
    "dataset": lambda _: TensorDataset(batch(8), torch.arange(8) % 2),
}

EXAMPLES = Pool({"batch": TENSORS["batch"]}, {**TENSORS, **OTHERS}).usual("batch", "tuple", "dict", "nine")
