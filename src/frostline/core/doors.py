"""Public doors: an error that a caller's own model, loss, optimizer or data raise inside a call gets four parts."""

from __future__ import annotations

import functools
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from traceback import FrameSummary, extract_tb
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from frostline.core.errors import FOREIGN, DataError, FrostlineError

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")
_OURS = str(Path(__file__).parents[1])  # the package
# Functions of ours that hand an operation of the caller on.
_PASSING = ("__torch_function__", "torch_called", "__torch_dispatch__", "<lambda>")
_ARITY = re.compile(r"\S+\(\) (takes|missing) .*argument")  # a callable wants others than we pass
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory"
)  # torch has no class for it on a CPU
_LIBRARIES = ("site-packages", "dist-packages", "/lib/python", "<frozen ")


def public(call: str, *, alone: str = "loss(model(inputs), target)") -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator of a public function, in which code of the caller runs.

    Plain errors of Python and torch that this code raises become a `DataError` with the error as its cause. Errors that
    a line of this library raises stay what they are, and so do exceptions of classes of the caller's own. Where a
    public function calls another one, the outer door tells.

    Args:
        call: The function as a reader writes it.
        alone: What a reader writes to see the same error without this library.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def opened(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                with _values():
                    return function(*args, **kwargs)
            except (*FOREIGN, MemoryError, FrostlineError) as error:
                if _is_inside(sys._getframe(1).f_code.co_filename):
                    raise  # the outermost door tells it
                if (death := _death_of_worker(error)) is not None:
                    raise _dead_worker(death) from error
                if (shortage := out_of_memory(error)) is not None:
                    raise _no_memory(call, shortage) from error
                if isinstance(error, FrostlineError):
                    raise
                frames = extract_tb(error.__traceback__)
                while _is_ours(frames[-1]) and frames[-1].name in _PASSING:
                    frames.pop()
                is_ours = _is_ours(frames[-1]) and not _ARITY.match(str(error))
                if type(error).__module__ not in ("builtins", "torch") or is_ours:
                    raise
                raise DataError(
                    what=f"{call} stopped: the model, the loss, the optimizer or the data raised an error.",
                    where=_place(frames), received=_told(error),
                    do=f"correct what the error names; the same error without Frostline, on one batch: {alone}.",
                ) from error  # fmt: skip

        return opened

    return decorate


def _death_of_worker(error: BaseException | None) -> BaseException | None:
    """What torch raises wherever this process happens to be when a worker dies; something may have been made of it."""
    while error is not None and not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")):
        error = error.__cause__ or error.__context__
    return error


def _dead_worker(error: BaseException) -> DataError:
    return DataError(
        what="A process that reads samples ended before its work was done; what was stored until then is kept.",
        where="a worker process of a DataLoader", received=str(error).splitlines()[0],
        do="pass a smaller num_workers (0 shows the error of the sample itself): the system ends such a process when"
        " memory or shared memory (/dev/shm) runs out, and a decoder that crashes ends it, too.",
    )  # fmt: skip


def out_of_memory(error: BaseException | None) -> BaseException | None:
    """The error of an allocator that found no memory, whatever was made of it; None if there is none."""
    if isinstance(error, MemoryError):  # one that has a text of its own, such as that of a reader, keeps it
        return error
    while error is not None and not (
        isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)))
    ):
        error = error.__cause__ or error.__context__
    return error


def _no_memory(call: str, error: BaseException) -> DataError:
    return DataError(
        what=f"{call} stopped: there is not enough memory.", where=_place(extract_tb(error.__traceback__)),
        received=_told(error),
        do="use less of it: smaller batches (batch_size, or the example of a split), fewer num_workers, smaller inputs "
        "or precision='bf16-mixed'; or end what else holds memory. What was stored until then is kept.",
    )  # fmt: skip


def _is_ours(frame: FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)


def _is_inside(file: str) -> bool:
    """Whether a file is the library's, but for the command line, which calls it as its users do."""
    return file.startswith(_OURS) and not file.startswith(f"{_OURS}/cli")


def _values() -> AbstractContextManager[Any]:
    """What is made inside has values, even if the caller's default device is the one without."""
    return torch.device("cpu") if torch.get_default_device().type == "meta" else nullcontext()


def _place(frames: list[FrameSummary]) -> str:
    """The innermost line of the caller's own code, or else that of the library that it calls."""
    own = [frame for frame in frames[1:] if not _is_ours(frame) and not _is_library(frame)]
    last = (own or frames)[-1]
    return f"{last.name}, {Path(last.filename).name} line {last.lineno}"


def _is_library(frame: FrameSummary) -> bool:
    return any(part in frame.filename for part in _LIBRARIES)


def _told(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first}"
