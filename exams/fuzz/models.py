"""Programs as living models: files that are imported, weights from a seed."""

from __future__ import annotations

import itertools
import random
import sys
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import frostline as fl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from .programs import Program

_COUNTER = itertools.count()
_MAX_PROGRAMS = 8  # compiled sources that are kept: a program is made several times in a row


@contextmanager
def made(program: Program, folder: Path, *, is_probed: bool = False) -> Iterator[nn.Module]:
    """A new model of a program, frozen, in a module of its own, so that no two share globals."""
    name, path = f"generated_{next(_COUNTER)}", folder / "generated.py"
    source = program.source(is_probed=is_probed)
    path.write_text(source)
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    try:
        exec(_compiled(source, str(path)), vars(module))  # noqa: S102 (the source is our own, and this imports it)
        seed_all(program.seed)
        model = module.Model()
        fl.freeze(model, modules=[model.get_submodule(part) for part in module.FROZEN if _is_module(model, part)])
        for part in module.FROZEN:
            if not _is_module(model, part):
                getattr(model, part).requires_grad_(False)
        yield model
    finally:
        del sys.modules[name]


@lru_cache(_MAX_PROGRAMS)
def _compiled(source: str, path: str) -> CodeType:
    return compile(source, path, "exec", dont_inherit=True)


def _is_module(model: nn.Module, name: str) -> bool:
    return isinstance(getattr(model, name), torch.nn.Module)


def seed_all(seed: int) -> None:
    """Every generator that a model may draw from."""
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` writes down the whole stack for devices to come
    random.seed(seed)
    np.random.seed(seed % 2**32)


def call(model: Any, inputs: Any) -> Any:
    """A model's output on a batch of any form."""
    return (
        model(**inputs) if isinstance(inputs, dict) else model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    )


def logits(output: Any) -> Tensor:
    """The tensor in an output of any form."""
    return output["logits"] if isinstance(output, dict) else output[0] if isinstance(output, tuple) else output
