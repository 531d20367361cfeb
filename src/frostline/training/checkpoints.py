"""Checkpoints: safetensors and JSON with one commit point, from which a run goes on to the bit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from frostline.core.digests import tensor_digest
from frostline.core.errors import CacheError, DataError
from frostline.core.io import disk_errors, make_folder, read_json, remove
from frostline.core.new_files import write_atomic, write_json
from frostline.core.records import Epoch
from frostline.core.restore import generator_states, set_generator_states
from frostline.training.run_files import INDEX, settle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch.optim import Optimizer

# What to do about settings that differ, beside passing the same argument: `heal` changes the first two.
_HEALED = "; if that run was healed first, heal the model again (frostline.heal, --heal)"
_REMEDIES = {
    "model": _HEALED, "hooks before each step": _HEALED, "schedule": ": pass the thaw= or freeze= of that run",
    "frozen through": ": pass freeze='auto' if the run began with it, and only then",
    "frozen parameters": ": freeze what that run had frozen when it began (freeze=)",
    "frozen layers": ": freeze what that run had frozen, with the same weights",
}  # fmt: skip


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        history: One record per epoch.
        best_epoch: The epoch with the best score, counted from 1.
        best_score: Its score.
        best: The trained state after it.
        stopped_early: True if patience ran out.
        moves: (epoch, number of moves): the frost line was moved before this epoch, so many times by then.
        measured: What a schedule has measured, one number per epoch, by name.
        folder: Of its last checkpoint.
        average: Of the weights that train, by name in the model; empty where none is kept.
    """

    history: list[Epoch]
    best_epoch: int
    best_score: float | None
    best: dict[str, Tensor]
    stopped_early: bool = False
    moves: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    measured: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    folder: Path | None = None
    average: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def final(self) -> dict[str, Tensor]:
        """What the model gets at the end of the run: the best weights, else their average; empty: those it has."""
        return self.best or self.average


# Frozen weights are not written in every epoch: they are the largest part and do not change. The checkpoint names
# their digest instead, so that a run is not resumed over other layers.
def trained_state(model: nn.Module, trains: Collection[str] | None = None) -> dict[str, Tensor]:
    """What training may change, by name in the model: these parameters and all buffers.

    Args:
        model: The model.
        trains: Names of the parameters that train at some time of the run; None: those that train now.
    """
    named = model.named_parameters()
    parameters = {name: p for name, p in named if (p.requires_grad if trains is None else name in trains)}
    return {name: t.detach() for name, t in (*parameters.items(), *model.named_buffers())}


def put_back(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Write a trained state into the model, in place."""
    current = dict((*model.named_parameters(), *model.named_buffers()))
    with torch.no_grad():
        for name, value in state.items():
            current[name].copy_(value)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: Any,
    progress: Progress,
    settings: dict[str, Any],
    stateful: Mapping[str, Any] | None = None,
    trains: Collection[str] | None = None,
) -> None:
    """Publish a checkpoint; until the last write the one before is the one that counts.

    What is stateful, such as a clip that remembers norms, is kept by name through its `state_dict`. `trains` is that of
    `trained_state`.
    """
    make_folder(folder)
    tensors = {f"model.{name}": tensor for name, tensor in trained_state(model, trains).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in progress.average.items()}
    optimizer_tensors, optimizer_json = _taken_apart(optimizer.state_dict())
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors.items()}
    python, numpy, cpu, cuda = generator_states()
    tensors |= {"generator.cpu": cpu} | {f"generator.cuda.{at}": state for at, state in enumerate(cuda)}
    tensors = {key: tensor for key, tensor in tensors.items() if tensor.layout is torch.strided}
    name = f"state-{len(progress.history):05d}.safetensors"
    write_atomic(folder / name, [save({key: value.cpu().contiguous().clone() for key, value in tensors.items()})])
    index = {
        "format": 1, "state": name, "settings": settings,
        "history": [_told(asdict(epoch)) for epoch in progress.history],
        "best_epoch": progress.best_epoch, **_told({"best_score": progress.best_score}),
        "stopped_early": progress.stopped_early, "moves": progress.moves, "measured": progress.measured,
        "optimizer": optimizer_json, "scheduler": _as_json(scheduler.state_dict()) if scheduler else None,
        "stateful": {key: _as_json(one.state_dict()) for key, one in (stateful or {}).items()
                     if hasattr(one, "state_dict")},
        "python": [python[0], list(python[1]), python[2]], "numpy": _numpy_json(numpy), "sparse": _sparse(model),
    }  # fmt: skip
    write_json(folder / INDEX, index)
    progress.folder = folder
    settle(folder)  # a run that this one replaces is deleted now
    with disk_errors("delete old checkpoints in", folder):
        for old in folder.glob("state-*.safetensors"):
            if old.name != name:
                remove(old)


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: Any,
    settings: dict[str, Any],
    stateful: Mapping[str, Any] | None = None,
) -> Progress:
    """Put model, optimizer, scheduler and generators back to the last checkpoint.

    Raises:
        DataError: If there is none, or it was made with other settings or another model.
    """
    index = read_json(folder / INDEX)
    made_with = index["settings"]
    both = dict.fromkeys((*settings, *made_with))
    differing = [key for key in both if made_with.get(key) != settings.get(key) and key != "epochs"]
    if differing:
        key = differing[0]
        raise DataError(
            what="The run to be resumed was made with other settings.",
            where=f"{folder / INDEX}, {key}",
            received=f"{made_with.get(key)!r} in the checkpoint, {settings.get(key)!r} now",
            do=f"resume with the same {key}{_REMEDIES.get(key, '')}; or start anew without resume.",
        )
    _check_sparse(model, index.get("sparse", {}), folder / INDEX)
    try:
        tensors = load_file(folder / index["state"])
    except (OSError, SafetensorError) as error:
        raise CacheError(
            what="The state of a checkpoint cannot be read.", where=str(folder / index["state"]), received=str(error),
            do="start anew without resume; the trained epochs of this folder are lost.",
        ) from error  # fmt: skip
    put_back(model, _part(tensors, "model."))
    optimizer.load_state_dict(_put_together(_part(tensors, "optimizer."), index["optimizer"]))
    if scheduler is not None:
        scheduler.load_state_dict(index["scheduler"])
    states = index.get("stateful", {"clip": index.get("clip")})  # an earlier version knew of a clip only
    for key, one in (stateful or {}).items():
        if hasattr(one, "load_state_dict") and states.get(key):
            one.load_state_dict(states[key])
    cuda = tuple(_part(tensors, "generator.cuda.").values())
    python = (index["python"][0], tuple(index["python"][1]), index["python"][2])
    set_generator_states((python, _numpy_state(index["numpy"]), tensors["generator.cpu"], cuda))
    history = [Epoch(**_read(epoch)) for epoch in index["history"]]
    score = _read({"best_score": index["best_score"]})["best_score"]
    best = {name: tensor.clone() for name, tensor in _part(tensors, "best.").items()}
    moves = [(int(epoch), int(count)) for epoch, count in index.get("moves", ())]
    measured = index.get("measured", {})
    return Progress(history, index["best_epoch"], score, best, index["stopped_early"], moves, measured, folder,
                    _part(tensors, "average."))  # fmt: skip


# safetensors holds no sparse tensors. No usual training moves one (they are the neighbours in a graph): the checkpoint
# keeps their digests, so that a run is not resumed over other ones.
def _sparse(model: nn.Module) -> dict[str, str]:
    return {name: tensor_digest(own) for name, own in model.named_buffers() if own.layout is not torch.strided}


def _check_sparse(model: nn.Module, kept: dict[str, str], where: Path) -> None:
    now = _sparse(model)
    for name in kept.keys() | now.keys():
        if kept.get(name) != now.get(name):
            raise DataError(
                what="A sparse buffer is not the one that the checkpoint was made with.", where=f"{where}, {name}",
                received="other entries: a checkpoint holds digests of sparse buffers, and not their values",
                do="build the model as it was for that run; a sparse tensor that training moves cannot be resumed: "
                "start anew without resume.",
            )  # fmt: skip


def recorded_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run in this folder."""
    return read_json(folder / INDEX)["settings"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _taken_apart(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for at, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{at}.{key}"] = value
            else:
                numbers.setdefault(str(at), {})[key] = value
    return tensors, _as_json({"numbers": numbers, "param_groups": state["param_groups"]})


def _put_together(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(at): dict(values) for at, values in rest["numbers"].items()}
    for name, tensor in tensors.items():
        at, _, key = name.partition(".")
        state.setdefault(int(at), {})[key] = tensor
    return {"state": state, "param_groups": rest["param_groups"]}


def _told(value: Any) -> Any:
    """Figures as JSON takes them: NaN and Inf of a validation that went wrong as text."""
    if isinstance(value, dict):
        return {key: _told(entry) for key, entry in cast("dict[str, Any]", value).items()}
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read(value: Any) -> Any:
    """The inverse of `_told`."""
    if isinstance(value, dict):
        return {key: _read(entry) for key, entry in cast("dict[str, Any]", value).items()}
    return float(value) if isinstance(value, str) else value


def _as_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise DataError(
            what="The state of the optimizer or scheduler cannot be saved as JSON.",
            where="the checkpoint",
            received=str(error),
            do="use an optimizer and a scheduler whose state_dict holds tensors and numbers, or train without out=.",
        ) from error


def _numpy_json(state: dict[str, Any]) -> dict[str, Any]:
    inner = state["state"]
    return {**state, "state": {"key": inner["key"].tolist(), "pos": inner["pos"]}}


def _numpy_state(state: dict[str, Any]) -> dict[str, Any]:
    inner = cast("dict[str, Any]", state["state"])
    return {**state, "state": {"key": np.array(inner["key"], np.uint32), "pos": inner["pos"]}}
