"""The log of the frozen calls of a run: one line each, from which the recipe key is made.

Every line holds the function, its arguments by their content, shapes, the digests of the parameters, buffers and
constants it reads, and the bytecode of the model's own functions that were running.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import NotCacheable
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.python_state.key_texts import Unnamed, function_text, text_of
from frostline.splitting.recording.tensor_ledger import storage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frostline.splitting.recording.run_record import Recording
    from frostline.splitting.recording.tensor_ledger import TensorLedger

# The name of `apply_function` in every key of this schema, wherever it stands now: another name would miss all caches
# of models with an autograd Function of their own.
_APPLY = "frostline.splitting.graph_writer.apply_function"


class CallLog:
    """The lines of one run.

    Args:
        recording: Takes the lines.
        ledger: The tensors of the run.
        is_on: False notes nothing.
        has_lines: False notes only which weights are read, and tensors of unknown origin: no digest is computed of
            what another recording has digested.
    """

    def __init__(
        self, recording: Recording, ledger: TensorLedger, *, is_on: bool, has_lines: bool = True
    ) -> None:  # fmt: skip
        self.is_on, self._has_lines = is_on, has_lines
        self._recording, self._ledger = recording, ledger

    def call(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """A frozen call, after the tensors that it has made are known."""
        if self.is_on:
            self._note_unknown_origins((args, kwargs))
            if self._has_lines:
                self._recording.log.append(describe_call(func, args, kwargs, result, self._ledger))
            else:
                self._ledger.note_weights((args, kwargs))

    def inner_call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a call in the body of a frozen autograd Function: it has a line, and no place in the graph."""
        before = self._ledger.versions((args, kwargs))
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            if tensors_in(result) or self._ledger.written(before):
                self.call(func, args, kwargs, result)
                self._ledger.made(result)
            elif torch_calls.hands_over(func, result):
                self._recording.handed.is_steered = True
        return result

    def script(self, script: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
        """A frozen call of a scripted function has run: its graph, its weights and its arguments."""
        with torch._C.DisableTorchFunction():
            if any(map(self._ledger.is_tainted, tensors_in((args, kwargs, result)))):
                return result
            if self.is_on:
                self._note_unknown_origins((args, kwargs))
                self._recording.log.append(f"script {_text((script, args, kwargs), self._ledger)}")
            self._ledger.made(result)
        return result

    def returned(self, result: Any) -> None:
        """A frozen module has returned: tensors of unknown origin enter the log by their content."""
        if self.is_on:
            self._recording.log += self._note_unknown_origins(result)

    def function_returned(self, args: Any, result: Any) -> None:
        """A frozen autograd Function has returned; torch gives an input that it returns as another tensor."""
        passed = {storage_of(own) for own in tensors_in(args)}
        self.returned([own for own in tensors_in(result) if not self._ledger.is_made(own, passed)])

    def _note_unknown_origins(self, value: Any) -> list[str]:
        found = [self._ledger.digest(own) for own in tensors_in(value) if not self._ledger.is_known(own)]
        self._recording.unknown_origins += found
        return found


def describe_call(func: Any, args: Any, kwargs: dict[str, Any], result: Any, ledger: TensorLedger) -> str:
    """The line of one frozen call."""
    runs_heard = func is torch_calls.apply_function  # what its body calls has lines of its own
    called = _APPLY if runs_heard else f"{getattr(func, '__module__', None)}.{torch_calls.name_of(func)}"
    code = ",".join(ledger.code(frame.f_code) for frame in torch_calls.user_frames())
    arguments = _text((args, kwargs), ledger, runs_heard=runs_heard)
    called += _named(function_text, func, ledger)
    made = tensors_in(result)
    shapes = [tuple(tensor.shape) for tensor in made]
    settings = f"{torch.is_autocast_enabled('cpu')}{torch.is_autocast_enabled('cuda')}"
    if any(tensor.is_cuda for tensor in made) and torch_calls.is_rounded_on_gpu(func):
        settings += "cuda"
    return f"{called}{arguments}->{shapes}|{settings}|{code}"


def _text(value: Any, ledger: TensorLedger, *, runs_heard: bool = False) -> str:
    def of_tensor(tensor: Tensor) -> str:
        return f"<{tensor.dtype}{tuple(tensor.shape)}>" if ledger.is_made(tensor) else f"<{ledger.digest(tensor)}>"

    return _named(partial(text_of, tensor=of_tensor, runs_heard=runs_heard), value, ledger)


def _named(text: Callable[[Any], str], value: Any, ledger: TensorLedger) -> str:
    """A text for the log.

    Raises:
        NotCacheable: If the value has none.
    """
    try:
        return text(value)
    except Unnamed as unnamed:
        raise _unnamed_error(str(unnamed), ledger.frames.top.frame.name) from None


def _unnamed_error(value: str, module: str) -> NotCacheable:
    """The recipe key would be the same for two models that compute different features."""
    return NotCacheable(
        what="The recipe key cannot hold an argument of a frozen call: its content cannot be read.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=value,
        do="pass a number, a tensor, an array, a container of these, or a plain function of them; or train with "
        "frostline.fit(..., cache=False).",
    )


def calls_digest(log: Sequence[str]) -> str:
    """SHA-256 of the log of the frozen calls."""
    return hashlib.sha256("\n".join(log).encode()).hexdigest()
