"""One call, judged: a result, or an error in four parts whose remedy helps; and nothing else has moved."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import frostline as fl
from exams.fuzz.public import states
from exams.fuzz.public.doors import GENERATORS, Door
from exams.fuzz.public.pools import UNSET, Call, Pool, UserFault, World, constants

LIMIT_S = 30
for _heavy in ("lightning_fabric", "sklearn.metrics", "torch._dynamo", "PIL.Image"):
    with contextlib.suppress(ImportError):  # they change the environment when they are first imported
        importlib.import_module(_heavy)
AMBIENT = Pool(
    constants({"plain": "plain"}), constants({label: label for label in states.AMBIENTS if label != "plain"})
)


class Hang(BaseException):
    """The call took longer than any call of this size may."""


@dataclass(frozen=True)
class Fault:
    """What was wrong with one call.

    Attributes:
        call: The call.
        kind: `TypeError`, `hang`, `moved grad mode`, `remedy`, ...
        place: The line of the library where it happened.
        detail: The message.
    """

    call: Call
    kind: str
    place: str
    detail: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Faults with this key are one fault."""
        return self.call.door, self.kind, self.place


@dataclass(frozen=True)
class Verdict:
    """What came of one call: `result`, `refused`, `unreached` (what must stand before it failed), or `fault`."""

    outcome: str
    fault: Fault | None = None
    error: fl.FrostlineError | None = None


@contextlib.contextmanager
def _limited(seconds: int) -> Generator[None]:
    """Raise `Hang` after so much processor time, or where ten times as long nothing came: a machine may be busy."""

    def stop(*_: Any) -> None:
        raise Hang

    before = {own: signal.signal(own, stop) for own in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for own, handler in before.items():
            signal.signal(own, handler)


@contextlib.contextmanager
def _folder() -> Generator[Path]:
    path = Path(tempfile.mkdtemp(prefix="frostline-call-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    with (
        states.restored(),
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def judge(
    door: Door,
    call: Call,
    *,
    on_model: Callable[[Any], Any] | None = None,
    values: Mapping[str, Any] | None = None,
    instead: Callable[[Any], Any] | None = None,
) -> Verdict:
    """Make the call, and look at what came of it.

    Args:
        door: Where the call goes.
        call: The call.
        on_model: Done to the model as soon as it is made: a remedy.
        values: Passed instead of the call's own: a remedy.
        instead: Called with the model instead of the call: a remedy.
    """
    random_seed()
    with _folder() as folder, _quiet():
        os.environ["XDG_CACHE_HOME"] = str(folder / "home")
        os.chdir(folder)  # an empty path is the current folder
        world = World(folder)
        try:
            with _limited(LIMIT_S):
                made = {**door.values(call, world, on_model), **(values or {})}
                prepared = door.prepare(world)
        except Exception:
            return Verdict("unreached")
        except Hang as hang:
            return Verdict("fault", Fault(call, "hang before the call", states.place(hang), ""))
        if instead is not None:
            door = replace(door, run=lambda world, prepared, values: instead(world.model))
        with states.ambient(call.labels.get("ambient", "plain")):
            return _made(door, call, world, prepared, made)


def random_seed() -> None:
    """Every call starts from the same generators."""
    torch.manual_seed(0)
    np.random.seed(0)


def _made(door: Door, call: Call, world: World, prepared: Any, values: dict[str, Any]) -> Verdict:
    process, model = states.process(), states.model_state(world.model)
    error: BaseException | None = None
    try:
        with _limited(LIMIT_S):
            result = door.run(world, prepared, values)
            repr(result), str(result)
    except (Exception, Hang) as raised:
        error = raised
    fault = _of_error(door, call, error)
    if fault is None:
        allowed = door.moves | (GENERATORS if _is_users(error) else frozenset())
        moved = [name for name in states.changes(process, states.process()) if name not in allowed]
        asked = [door.also[name] for name, label in call.labels.items() if label != UNSET and name in door.also]
        kinds = door.on_success.union(*asked) if error is None else door.on_error
        if not _is_users(error):
            after = states.model_state(world.model)
            moved += [f"the model's {kind}" for kind in states.changes(model, after) if kind not in kinds]
        if moved:
            when = "after an error" if error is not None else "after a result"
            fault = Fault(call, f"moved {', '.join(moved)}", when, _text(error))
    if fault is not None:
        return Verdict("fault", fault)
    if error is None:
        return Verdict("result")
    return Verdict("refused", error=error if isinstance(error, fl.FrostlineError) else None)


def _is_users(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, UserFault):
            return True
        error = error.__cause__ or error.__context__
    return False


def _of_error(door: Door, call: Call, error: BaseException | None) -> Fault | None:
    if error is None or isinstance(error, door.allowed):
        return None
    if isinstance(error, fl.FrostlineError):
        empty = [name for name, text in error.parts().items() if not isinstance(text, str) or not text.strip()]
        return Fault(call, f"empty {', '.join(empty)}", states.place(error), _text(error)) if empty else None
    if _is_users(error):
        return None
    kind = "hang" if isinstance(error, Hang) else type(error).__name__
    return Fault(call, kind, states.place(error), _text(error))


def _text(error: BaseException | None) -> str:
    return " | ".join(str(error).splitlines())[:300] if error is not None else ""
