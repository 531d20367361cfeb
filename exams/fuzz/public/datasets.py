"""Data sets, batches, losses and optimizers, as people pass them.

Legend: N samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

import frostline as fl
from exams.fuzz.public.networks import D, mlp
from exams.fuzz.public.pools import Make, Pool, UserFault, World, constants
from exams.fuzz.public.tensors import TENSORS, batch

N = 24
CLASSES = torch.arange(N) % 2


class Items(Dataset[Any]):
    """A data set of whatever `item(index)` gives."""

    def __init__(self, item: Callable[[int], Any], count: Any = N) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index >= 10 * N:
            raise IndexError(index)
        return self.item(index)


class Keyed(Items):
    """One that knows its samples; `key` makes the key."""

    fingerprint: Any = "keyed/1"

    def __init__(self, key: Callable[[int], Any], fingerprint: Any = "keyed/1") -> None:
        super().__init__(lambda index: (X[index], int(CLASSES[index])))
        self.key, self.fingerprint = key, fingerprint

    def sample_key(self, index: int) -> Any:
        """The key."""
        return self.key(index)

    def target(self, index: int) -> int:
        """The target."""
        return int(CLASSES[index])


class Stream(IterableDataset[Any]):
    """Samples one after the other."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X, CLASSES, strict=True))


X = batch(N)


def _raises(index: int) -> Any:
    if index == 3:
        raise UserFault("item")
    return X[index], CLASSES[index]


def _with_target(make: Callable[[int], Any]) -> Make:
    return lambda _: Items(lambda index: (X[index], make(index)))


def _with_input(make: Callable[[int], Any]) -> Make:
    return lambda _: Items(lambda index: (make(index), int(CLASSES[index])))


def _random(index: int) -> Any:
    return torch.randn(D), int(CLASSES[index])


def _targets_attribute(_: World) -> Any:
    found = Items(lambda index: (X[index], int(CLASSES[index])))
    found.targets = CLASSES.tolist()
    return found


def _cached(world: World) -> Any:
    model = fl_half()
    return fl.FeatureCache(world.folder / "features").fill(fl.split(model, batch()), plain(), progress=False)


def fl_half() -> nn.Module:
    """A half frozen network of the fuzzer's own."""
    model = mlp()
    fl.freeze(model, through="3")
    return model


def plain(count: int = N) -> TensorDataset:
    """The usual data set."""
    return TensorDataset(X[:count], CLASSES[:count])


DATASETS = Pool(
    {
        "plain": lambda _: plain(),
        "items": lambda _: Items(lambda index: (X[index], int(CLASSES[index]))),
        "mappings": lambda _: Items(lambda index: {"input": X[index], "label": CLASSES[index]}),
        "keyed": lambda _: Keyed(lambda index: index.to_bytes(16, "little")),
    },
    {
        **constants(
            {
                "None": None,
                "text": "data/",
                "number": 3,
                "bytes": b"x",
                "empty list": [],
                "empty dict": {},
                "class": TensorDataset,
            }
        ),
        "list": lambda _: list(zip(X, CLASSES.tolist(), strict=True)),
        "tuple of tensors": lambda _: (X, CLASSES),
        "tensor": lambda _: X,
        "numpy": lambda _: X.numpy(),
        "loader": lambda _: DataLoader(plain(), 4),
        "generator": lambda _: (pair for pair in zip(X, CLASSES, strict=True)),
        "stream": lambda _: Stream(),
        "empty": lambda _: TensorDataset(X[:0], CLASSES[:0]),
        "one sample": lambda _: plain(1),
        "two samples": lambda _: plain(2),
        "subset": lambda _: Subset(plain(), [1, 3, 5, 7]),
        "subset beyond": lambda _: Subset(plain(), [1, 3, N + 5]),
        "joined": lambda _: ConcatDataset([plain(), plain()]),
        "cached": _cached,
        "raises": lambda _: Items(_raises),
        "too long": lambda _: Items(lambda index: plain()[index], N + 3),
        "negative length": lambda _: Items(lambda index: plain()[index], -1),
        "length of None": lambda _: Items(lambda index: plain()[index], None),
        "length of float": lambda _: Items(lambda index: plain()[index], 8.0),
        "random": lambda _: Items(_random),
        "inputs only": lambda _: Items(lambda index: X[index]),
        "inputs in a tuple": lambda _: TensorDataset(X),
        "triples": lambda _: TensorDataset(X, CLASSES, CLASSES),
        "items of None": lambda _: Items(lambda _: None),
        "items of text": lambda _: Items(lambda _: "cat"),
        "no label": lambda _: Items(lambda index: {"input": X[index]}),
        "labels and label": lambda _: Items(lambda index: {"input": X[index], "labels": 0, "label": 1}),
        "targets attribute": _targets_attribute,
        "key of text": lambda _: Keyed(str),
        "key of None": lambda _: Keyed(lambda _: None),
        "same key": lambda _: Keyed(lambda _: b"0" * 16),
        "short key": lambda _: Keyed(lambda index: bytes([index])),
        "empty key": lambda _: Keyed(lambda _: b""),
        "raising key": lambda _: Keyed(lambda index: _raises(index)),
        "fingerprint of None": lambda _: Keyed(lambda index: index.to_bytes(16, "little"), None),
        **{
            f"target {label}": _with_target(make)
            for label, make in {
                "text": lambda index: "cat" if index % 2 else "dog",
                "None": lambda _: None,
                "(1,)": lambda i: CLASSES[i : i + 1],
                "one-hot": lambda i: nn.functional.one_hot(CLASSES[i], 2),
                "one-hot float": lambda i: nn.functional.one_hot(CLASSES[i], 2).float(),
                "negative": lambda i: int(CLASSES[i]) - 1,
                "ignored": lambda _: -100,
                "beyond": lambda i: i,
                "nan": lambda _: float("nan"),
                "float": lambda i: i / 3,
                "bool": lambda i: bool(i % 2),
                "numpy": lambda i: np.int64(i % 2),
                "numpy bool": lambda i: np.bool_(i % 2),
                "uint8": lambda i: CLASSES[i].byte(),
                "int32": lambda i: CLASSES[i].int(),
                "huge": lambda _: 2**62,
                "beyond 64 bits": lambda _: 2**70,
                "ragged": lambda i: CLASSES[: i + 1],
                "dict": lambda i: {"a": CLASSES[i]},
                "tuple": lambda i: (CLASSES[i], 1.0),
                "bytes": lambda _: b"cat",
                "complex": lambda _: 1j,
                "float16": lambda i: CLASSES[i].half(),
                "half None": lambda i: None if i % 2 else 1,
                "list": lambda i: [i % 2],
                "empty": lambda _: torch.zeros(0),
                "with gradient": lambda _: torch.ones((), requires_grad=True),
                "sparse": lambda _: torch.ones(2).to_sparse(),
            }.items()
        },
        **{
            f"input {label}": _with_input(make)
            for label, make in {
                "numpy": lambda i: X[i].numpy(),
                "objects": lambda _: np.array([None, "a"], dtype=object),
                "None": lambda _: None,
                "text": lambda _: "cat",
                "list": lambda i: X[i].tolist(),
                "ragged": lambda i: X[i, : 1 + i % D],
                "nan": lambda _: torch.full((D,), float("nan")),
                "half": lambda i: X[i].half(),
                "float64": lambda i: X[i].double(),
                "integers": lambda i: X[i].long(),
                "complex": lambda i: torch.complex(X[i], X[i]),
                "sparse": lambda i: X[i].to_sparse(),
                "with gradient": lambda i: X[i].clone().requires_grad_(),
                "meta": lambda i: X[i].to("meta"),
                "too wide": lambda _: torch.zeros(D + 1),
                "scalar": lambda i: X[i, 0],
                "number": float,
                "tuple": lambda i: (X[i],),
                "two": lambda i: (X[i], X[i]),
                "empty": lambda _: torch.zeros(0),
                "mixed types": lambda i: X[i].double() if i % 2 else X[i],
                "bytes": lambda _: b"x",
                "nested dict": lambda i: {"input": {"x": X[i]}},
                "empty dict": lambda _: {},
                "images": lambda _: torch.zeros(3, 8, 8),
                "batched": lambda i: X[i : i + 1],
            }.items()
        },
    },
)


def batches(count: int = 24, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """A few epochs of batches."""
    generator = torch.Generator().manual_seed(5)
    found: list[tuple[Tensor, Tensor]] = []
    for _ in range(count):
        x_BD = torch.randn(size, D, generator=generator)
        found.append((x_BD, (x_BD.sum(1) > 0).long()))
    return found


def _raising() -> Iterator[Any]:
    yield from batches(4)
    raise UserFault("batches")


BATCHES = Pool(
    {
        "list": lambda _: batches(),
        "loader": lambda _: DataLoader(plain(), 8),
        "few": lambda _: batches(3),
        "generator": lambda _: iter(batches()),
    },
    {
        **constants(
            {
                "None": None,
                "text": "data",
                "number": 3,
                "empty": [],
                "numbers": [1, 2, 3],
                "Nones": [None, None],
                "texts": ["a", "b"],
                "class": DataLoader,
                "function": len,
                "empty batches": [()],
                "bytes": b"abc",
            }
        ),
        "one batch": lambda _: batches(1),
        "a batch itself": lambda _: batches(1)[0],
        "a tensor": lambda _: batch(),
        "used up": lambda _: _used_up(),
        "inputs only": lambda _: [x for x, _ in batches(8)],
        "in lists": lambda _: [list(pair) for pair in batches(8)],
        "triples": lambda _: [(x, y, y) for x, y in batches(8)],
        "mappings": lambda _: [{"input": x, "label": y} for x, y in batches(8)],
        "no targets": lambda _: [(x, None) for x, _ in batches(8)],
        "raises": lambda _: _raising(),
        "data set": lambda _: plain(),
        "mapping of batches": lambda _: dict(enumerate(batches(4))),
        "other sizes": lambda _: [(x[: 1 + at], y[: 1 + at]) for at, (x, y) in enumerate(batches(7))],
        "single samples": lambda _: [(x[:1], y[:1]) for x, y in batches(8)],
        "no samples": lambda _: [(x[:0], y[:0]) for x, y in batches(8)],
        "unequal": lambda _: [(x, y[:3]) for x, y in batches(8)],
        "target beyond": lambda _: [(x, y + 9) for x, y in batches(8)],
        "target negative": lambda _: [(x, y - 2) for x, y in batches(8)],
        "target ignored": lambda _: [(x, y * 0 - 100) for x, y in batches(8)],
        "target column": lambda _: [(x, y[:, None]) for x, y in batches(8)],
        "target one-hot": lambda _: [(x, nn.functional.one_hot(y, 2)) for x, y in batches(8)],
        "target float": lambda _: [(x, y.float()) for x, y in batches(8)],
        "target text": lambda _: [(x, ["a"] * len(x)) for x, _ in batches(8)],
        "numpy": lambda _: [(x.numpy(), y.numpy()) for x, y in batches(8)],
        "too wide": lambda _: [(torch.zeros(8, D + 1), y) for _, y in batches(8)],
        "one too wide": lambda _: [*batches(8), (torch.zeros(8, D + 1), CLASSES[:8])],
        "nan": lambda _: [(x * float("nan"), y) for x, y in batches(8)],
        "one nan": lambda _: [*batches(8), (torch.full((8, D), float("nan")), CLASSES[:8])],
        "large": lambda _: [(x * 1e20, y) for x, y in batches(8)],
        "constant": lambda _: [(torch.zeros(8, D), y) for _, y in batches(8)],
        **{
            f"of {name}": (lambda _, make=TENSORS[name]: [(make(World(None)), torch.arange(4) % 2)] * 6)
            for name in (
                "integers",
                "half",
                "float64",
                "complex",
                "sparse",
                "nested",
                "meta",
                "wants gradients",
                "inference",
                "of a graph",
                "no axis",
                "bool",
            )
        },
    },
)


def _used_up() -> Any:
    found = iter(batches(2))
    list(found)
    return found


COLLATES = Pool(
    {"-": lambda _: None, "stacks": lambda _: default_collate},
    {
        **constants({"number": 3, "text": "pad", "list": []}),
        "drops": lambda _: lambda items: default_collate(items[:1]),
        "fails": lambda _: lambda items: items.pad(),
        "items": lambda _: lambda items: items,
    },
)
