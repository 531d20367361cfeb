"""Programs as living models: files that are imported, weights from a seed."""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
from contextlib import contextmanager
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


@contextmanager
def made(program: Program, folder: Path, *, is_probed: bool = False) -> Iterator[nn.Module]:
    """A new model of a program, frozen, from a file of its own, so that no two share globals."""
    name = f"generated_{next(_COUNTER)}"
    path = folder / f"{name}.py"
    path.write_text(program.source(is_probed=is_probed))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        seed_all(program.seed)
        model = module.Model()
        fl.freeze(model, modules=[model.get_submodule(part) for part in module.FROZEN if _is_module(model, part)])
        for part in module.FROZEN:
            if not _is_module(model, part):
                getattr(model, part).requires_grad_(False)
        yield model
    finally:
        del sys.modules[name]
        path.unlink()


def _is_module(model: nn.Module, name: str) -> bool:
    return isinstance(getattr(model, name), torch.nn.Module)


def seed_all(seed: int) -> None:
    """Every generator that a model may draw from."""
    torch.manual_seed(seed)
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
