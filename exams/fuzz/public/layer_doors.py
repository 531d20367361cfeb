"""Doors of what changes layers: freeze, thaw, replace_head, reuse, the remedies, clips."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl
from exams.fuzz.public import scalars as s
from exams.fuzz.public.datasets import BATCHES
from exams.fuzz.public.doors import ANYTHING, GENERATORS, Door, function, method
from exams.fuzz.public.networks import MODELS, Wrapped, mlp
from exams.fuzz.public.pools import Make, Pool, World, constants
from exams.fuzz.public.states import changes, model_state
from exams.fuzz.public.tensors import EXAMPLES
from exams.fuzz.public.trainers import LOSSES, OPTIMIZERS

R = fl.remedies


def _saved(name: str, make: Any) -> Make:
    def save(world: World) -> Any:
        path = world.folder / name
        state = make()
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    return save


def _garbage(name: str, content: bytes) -> Make:
    def write(world: World) -> Any:
        (world.folder / name).write_bytes(content)
        return world.folder / name

    return write


def _prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in mlp().state_dict().items()}


SOURCES = Pool(
    {"safetensors": _saved("weights.safetensors", lambda: mlp().state_dict()), "mlp": lambda _: mlp()},
    {
        "pt": _saved("weights.pt", lambda: mlp().state_dict()),
        "whole model": _saved("model.pt", mlp),
        "nested pt": _saved("nested.pt", lambda: {"state_dict": mlp().state_dict(), "epoch": 3}),
        "two networks": _saved("two.pt", lambda: {"ema": mlp().state_dict(), "net": mlp().state_dict()}),
        "prefixed": _saved("prefixed.safetensors", lambda: _prefixed("module.")),
        "compiled keys": _saved("compiled.pt", lambda: _prefixed("_orig_mod.")),
        "other network": _saved("other.safetensors", lambda: Wrapped().state_dict()),
        "other shapes": _saved("shapes.safetensors", lambda: nn.Linear(3, 5).state_dict()),
        "only counters": _saved("counter.pt", lambda: {"1.num_batches_tracked": torch.tensor(3)}),
        "list in a file": _saved("list.pt", lambda: [1, 2, 3]),
        "text in a file": _saved("text.pt", lambda: "weights"),
        "empty dict in a file": _saved("empty.pt", dict),
        "half": _saved("half.safetensors", lambda: mlp().half().state_dict()),
        "garbage": _garbage("bad.safetensors", b"not a file of weights"),
        "garbage pt": _garbage("bad.pt", b"not a file of weights"),
        "empty file": _garbage("empty.safetensors", b""),
        "huge header": _garbage("header.safetensors", b"\xff" * 8 + b"{}"),
        "other ending": _garbage("weights.h5", b"\x89HDF"),
        "no ending": _garbage("weights", b"x"),
        "a dict": lambda _: mlp().state_dict(),
        "itself": lambda w: w.model,
        **{f"path {k}": v for k, v in s.PATHS.items()},
        **{f"model {k}": v for k, v in {**MODELS.sane, **MODELS.odd}.items()},
    },
)

TRAINABLE = MODELS.usual("mlp", "half", "wrapped")


def _with_gradients(world: World) -> Any:
    if not isinstance(world.model, nn.Module):
        return mlp().parameters()
    for at, parameter in enumerate(world.model.parameters()):
        if not isinstance(parameter, nn.parameter.UninitializedParameter) and parameter.is_leaf:
            parameter.grad = torch.full_like(parameter, 0.5 + at)
    return world.model.parameters()


def _gradient(value: Any, **options: Any) -> Make:
    def make(_: World) -> Any:
        parameter = nn.Parameter(torch.ones(3, **options))
        parameter.grad = torch.full_like(parameter, value)
        return [parameter]

    return make


PARAMETERS = Pool(
    {"with gradients": _with_gradients},
    {
        **constants({"None": None, "text": "weights", "number": 3, "empty": [], "of None": [None], "bytes": b"x"}),
        "named": lambda w: w.model.named_parameters() if isinstance(w.model, nn.Module) else [],
        "groups": lambda w: [{"params": list(_with_gradients(w))}],
        "the model": lambda w: w.model,
        "one": _gradient(1.0),
        "nan": _gradient(float("nan")),
        "infinite": _gradient(float("inf")),
        "huge": _gradient(1e30),
        "half": _gradient(1.0, dtype=torch.float16),
        "complex": _gradient(1.0, dtype=torch.complex64),
        "meta": _gradient(1.0, device="meta"),
        "without gradients": lambda _: mlp().parameters(),
        "plain tensors": lambda _: [torch.zeros(2)],
        "sparse": lambda _: _sparse(),
        "dict": lambda _: dict(mlp().named_parameters()),
    },
)


def _sparse() -> Any:
    layer = nn.Embedding(4, 2, sparse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer(torch.tensor([1])).sum().backward()
    return list(layer.parameters())


def _clip_state(label: str) -> Make:
    return lambda _: {
        "good": R.clip_by_zscore(2.0).state_dict(),
        "other rule": R.clip_by_norm(1.0).state_dict(),
        "half": {"num_calls": 1},
        "wrong": {"num_calls": "a", "num_skipped": None, "rule": 3},
        "extra": {**R.clip_by_zscore(2.0).state_dict(), "more": 1},
    }[label]


CLIP_STATES = Pool(
    {"good": _clip_state("good")},
    {
        **{label: _clip_state(label) for label in ("other rule", "half", "wrong", "extra")},
        **constants({"None": None, "text": "state", "list": [], "empty": {}}),
    },
)


class NotUndone(Exception):  # noqa: N818
    """A change that was undone, and left something behind."""


def _undone_twice(world: World, prepared: Any, _: Any) -> Any:
    before, change = prepared
    change.undo()
    change.undo()
    moved = changes(before, model_state(world.model))
    if moved:
        raise NotUndone(f"left behind: {', '.join(moved)}")
    return change


def _swapped(world: World) -> Any:
    before = model_state(world.model)
    return before, R.swap_activations(world.model, "relu", "elu")


def _folded(world: World) -> Any:
    before = model_state(world.model)
    return before, R.fold_batchnorm(world.model, world.values["example"]).change


_CHANGES: dict[str, Any] = {"on_success": ANYTHING, "owner": "doctor"}
_WHERE = s.NAMES.optional()
_OPTIMIZER = OPTIMIZERS.optional()

DOORS: list[Door] = [
    function(
        "freeze",
        fl.freeze,
        {
            "model": TRAINABLE,
            "through": s.LAYERS.optional(),
            "patterns": s.NAMES.optional(),
            "modules": s.MODULE_LISTS.optional(),
            "parameters": s.PARAMETER_LISTS.optional(),
        },
        on_success=ANYTHING,
    ),
    function(
        "thaw",
        fl.thaw,
        {"model": MODELS, "down_to": s.LAYERS.optional(), "all": s.FLAGS.optional()},
        on_success=ANYTHING,
    ),
    function(
        "replace_head",
        fl.replace_head,
        {"model": MODELS, "num_classes": s.COUNTS.without("huge"), "name": s.LAYERS.optional()},
        on_success=ANYTHING,
        moves=GENERATORS,
    ),
    function(
        "reuse",
        fl.reuse,
        {
            "target": TRAINABLE,
            "source": SOURCES,
            "through": s.LAYERS.optional(),
            "names": s.NAMES.optional(),
            "key": s.LAYERS.usual("unknown").optional(),
            "prefix": s.LAYERS.usual("trailing").optional(),
        },
        on_success=ANYTHING,
    ),
    function(
        "remedies.swap_activations",
        R.swap_activations,
        {"model": TRAINABLE, "old": s.OLD_ACTIVATIONS, "new": s.ACTIVATIONS, "layers": _WHERE, "optimizer": _OPTIMIZER},
        **_CHANGES,
    ),
    function(
        "remedies.fold_batchnorm",
        R.fold_batchnorm,
        {"model": MODELS.usual("eval", "mlp"), "example": EXAMPLES, "tolerance": s.NUMBERS.optional()},
        cost=3,
        **_CHANGES,
    ),
    function(
        "remedies.initialize",
        R.initialize,
        {
            "model": TRAINABLE,
            "scheme": Pool(constants({"auto": "auto", "he": "he", "orthogonal": "orthogonal"}), s.NAMES.odd).optional(),
            "layers": _WHERE,
            "batch": EXAMPLES.optional(),
            "optimizer": _OPTIMIZER,
            "include_pretrained": s.FLAGS.optional(),
            "seed": s.SEEDS.optional(),
        },
        **_CHANGES,
    ),
    function(
        "remedies.lsuv",
        R.lsuv,
        {
            "model": TRAINABLE,
            "batch": EXAMPLES,
            "layers": s.NAMES,
            "tolerance": s.NUMBERS.optional(),
            "max_iterations": s.COUNTS.without("huge").optional(),
            "optimizer": _OPTIMIZER,
            "seed": s.SEEDS.optional(),
        },
        **_CHANGES,
    ),
    function(
        "remedies.insert_batchnorm",
        R.insert_batchnorm,
        {
            "model": TRAINABLE,
            "batches": BATCHES,
            "where": _WHERE,
            "start": Pool(constants({"identity": "identity", "normalised": "normalised"}), s.NAMES.odd).optional(),
            "optimizer": _OPTIMIZER,
        },
        **_CHANGES,
    ),
    function(
        "remedies.reestimate_batchnorm", R.reestimate_batchnorm, {"model": TRAINABLE, "loader": BATCHES}, **_CHANGES
    ),
    function(
        "remedies.standardize_inputs",
        R.standardize_inputs,
        {"model": TRAINABLE, "batches": BATCHES, "name": s.LAYERS.optional()},
        **_CHANGES,
    ),
    function(
        "remedies.rescale_outputs",
        R.rescale_outputs,
        {"model": TRAINABLE, "batches": BATCHES, "mean": s.NUMBERS, "deviation": s.NUMBERS},
        **_CHANGES,
    ),
    function(
        "remedies.price_activations",
        R.price_activations,
        {
            "model": TRAINABLE,
            "batches": BATCHES,
            "loss_fn": LOSSES,
            "candidates": Pool(
                constants({"elu": ["elu"]}),
                {
                    **s.NAMES.odd,
                    **constants({"unknown": ["reluu"], "same": ["relu"], "layers": [nn.Linear], "one": "elu"}),
                },
            ),
            "optimizer": _OPTIMIZER,
            "steps": s.COUNTS.without("huge"),
            "old": s.OLD_ACTIVATIONS.optional(),
        },
        cost=10,
        owner="doctor",
    ),
    function("remedies.clip_by_value", R.clip_by_value, {"limit": s.NUMBERS}, owner="doctor"),
    function("remedies.clip_by_norm", R.clip_by_norm, {"max_norm": s.NUMBERS}, owner="doctor"),
    function(
        "remedies.clip_adaptive",
        R.clip_adaptive,
        {"clip_factor": s.NUMBERS.optional(), "eps": s.NUMBERS.optional()},
        owner="doctor",
    ),
    function(
        "remedies.clip_by_percentile",
        R.clip_by_percentile,
        {"percentile": s.NUMBERS.optional(), "window": s.COUNTS.optional(), "warmup": s.COUNTS.optional()},
        owner="doctor",
    ),
    function(
        "remedies.clip_by_zscore",
        R.clip_by_zscore,
        {
            "z": s.NUMBERS.optional(),
            "alpha": s.SHARES.optional(),
            "warmup": s.COUNTS.optional(),
            "max_norm": s.NUMBERS.optional(),
        },
        owner="doctor",
    ),
    method(
        "Clip.__call__",
        R.Clip.__call__,
        {"model": TRAINABLE, "parameters": PARAMETERS},
        lambda _: R.clip_by_zscore(2.0),
        on_success=frozenset({"gradient"}),
        owner="doctor",
    ),
    method(
        "Clip.load_state_dict",
        R.Clip.load_state_dict,
        {"state": CLIP_STATES},
        lambda _: R.clip_by_zscore(2.0),
        lambda _: None,
        owner="doctor",
    ),
    Door(
        "Change.undo", lambda: None, {"model": TRAINABLE}, _undone_twice, _swapped, on_success=ANYTHING, owner="doctor"
    ),
    Door(
        "FoldCertificate.change.undo",
        lambda: None,
        {"model": MODELS.usual("eval"), "example": EXAMPLES},
        _undone_twice,
        _folded,
        on_success=ANYTHING,
        owner="doctor",
    ),
]
