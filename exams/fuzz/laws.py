"""The laws: the head is the model, a cached training is the uncached one, and that a plain loop; or a refusal."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

import frostline as fl
from frostline.core.inputs import leaves, map_tensors
from frostline.core.order import epoch_order
from frostline.splitting import frozen_side_in_inference_mode

from .models import call, logits, made, seed_all
from .plain_loop import OPTIMIZERS, NotingList, plain_training
from .samples import as_dataset, make_samples, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from .programs import Program

# What `fit` says where the frozen side draws noise that it leaves out: a plain loop draws it.
_LEFT_OUT = "runs in inference mode"
# Differences above this, relative to 1 or to the largest value, are faults; rounding stays below 1e-5 here.
_TOLERANCE = 1e-3
# A fault must also be this many times what a change of the samples in the last digits does to the uncached training.
_MARGIN = 20
_LIMIT_S = 30
_PLAIN_EVERY = 4  # of so many that are trained by `fit` without a cache, one is trained by a plain loop as well
# What else a training is told, by the seed of the program: half of them nothing.
_SETTINGS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {"scheduler": "cosine", "clip": fl.remedies.clip_by_norm(0.5)}, {"metric": "f1"}, {"monitor": True},
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a model.

    Attributes:
        verdict: `same`, `refused`, `different`, `crash`, or `invalid` where the plain model fails as well.
        where: At which law.
        text: The refusal, the difference or the exception.
    """

    verdict: str
    where: str
    text: str = ""


class _OverTimeError(BaseException):
    """Not an Exception, so that no model catches it."""


def judge(program: Program) -> Outcome:
    """Try a law on a program: `fit` makes a split of its own, so that one law for each model proves each split once."""
    law = (_head_law, _fit_law, _plain_law)[program.seed % 3]
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        with _limited(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                broken = _plain_failure(program, folder)
                if broken:
                    return Outcome("invalid", "plain model", broken)
                return law(program, folder) or Outcome("same", "")
            except _OverTimeError:
                return Outcome("crash", "time", f"more than {_LIMIT_S} s")
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Processor time counts, since others may use this machine too."""

    def stop(*_: Any) -> None:
        raise _OverTimeError

    before = signal.signal(signal.SIGPROF, stop), signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, _LIMIT_S)
    signal.alarm(_LIMIT_S * 20)  # who waits uses none
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


def _plain_failure(program: Program, folder: Path) -> str:
    """Why the plain model cannot be trained on these samples, if it cannot."""
    inputs, labels = make_samples(program)
    try:
        with made(program, folder) as model:
            for index in (*_batches(program), [0, 1]):
                for is_training in (True, False):
                    model.train(is_training)
                    out = logits(call(model, take(inputs, index)))
                    if out.shape != (len(index), 2) or not torch.isfinite(out).all() or not out.requires_grad:
                        return "an output that cannot be trained"
                    F.cross_entropy(out, labels[index]).backward()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _batches(program: Program) -> list[list[int]]:
    rows = [*range(program.count)]
    return [rows[at : at + program.batch] for at in range(0, program.count, program.batch)]


def _head_law(program: Program, folder: Path) -> Outcome | None:
    """Features first, as a fill takes them; then steps on both, and the modes in turn."""
    inputs, labels = make_samples(program)
    last = program.count - 1
    parts = [*_batches(program), [last], [0, last], [last, 1, 2], [5, 4, 3, last, last - 1]]
    parts = [part for part in parts if _is_taken(program, folder, take(inputs, part))]
    example = take(inputs, [*range(min(4, program.batch))])
    with made(program, folder) as model, made(program, folder) as plain, contextlib.ExitStack() as around:
        where = "split"
        try:
            split = fl.split(model, example)
            if any("runs in inference mode" in note for note in split.explain().notes):
                around.enter_context(frozen_side_in_inference_mode(plain, example))  # noise that is left out, and told
            where = "extract"
            stored = [tuple(f.clone() for f in split.extract(take(inputs, part))) for part in parts]
            where = "head"
            for step, (part, features) in enumerate(zip(parts, stored, strict=True)):
                for is_training in (True, False):
                    for each in (model, split.head, plain):
                        each.train(is_training)
                    try:
                        seed_all(step)
                        expected = _stepped(plain, logits(call(plain, take(inputs, part))), labels[part], is_training)
                    except ValueError:  # statistics of one sample: the plain model has counted the batch all the same
                        with contextlib.suppress(ValueError):
                            split.head(*features)
                        continue
                    seed_all(step)
                    found = _stepped(model, logits(split.head(*features)), labels[part], is_training)
                    gap = _gap(found, expected)
                    if gap:
                        return Outcome(
                            "different",
                            f"head, {'train' if is_training else 'eval'}",
                            f"{gap} at batch {step} of {len(part)}",
                        )
        except fl.FrostlineError as error:
            return _refusal(error, where)
        except Exception as error:
            return Outcome("crash", where, f"{type(error).__name__}: {error}")
    return None


def _is_taken(program: Program, folder: Path, inputs: Any) -> bool:
    """False if the model refuses the batch by an error of its own; statistics of one sample are no such error."""
    with made(program, folder) as model, torch.no_grad():
        try:
            call(model.eval(), inputs)
        except Exception:
            return False
    return True


def _stepped(model: nn.Module, out: Tensor, labels: Tensor, is_training: bool) -> dict[str, Tensor]:
    """What a step gives: output, gradients, buffers; the weights are moved."""
    found = {"output": out.detach().clone()}
    if is_training:
        model.zero_grad()
        F.cross_entropy(out, labels).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"gradient of {name}"] = parameter.grad.clone()
                parameter.data.sub_(parameter.grad.clamp(-1, 1), alpha=0.05)
    return found | {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}


def _gap(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    if found.keys() != expected.keys():
        return f"only one has {sorted(found.keys() ^ expected.keys())[0]}"
    for name, theirs in expected.items():
        size = _difference(found[name], theirs)
        if size > _TOLERANCE:
            return f"{name} differs by {size:.2g}"
    return ""


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return float("inf")
    one, other = one.to_dense().double(), other.to_dense().double()
    if not one.numel() or torch.equal(one.nan_to_num(), other.nan_to_num()):
        return 0.0
    size = float((one - other).abs().max() / other.abs().max().clamp(min=1))
    return size if size == size else float("inf")


def _fit_law(program: Program, folder: Path) -> Outcome | None:
    inputs, labels = make_samples(program)
    try:
        expected = _trained(program, folder, inputs, labels, False)
    except fl.FrostlineError as error:
        return Outcome("invalid", "fit, uncached", error.what)
    except Exception as error:
        is_own = (
            f"class {type(error).__name__}(" in program.source()
        )  # which a validation batch of one sample may raise
        return Outcome("invalid" if is_own else "crash", "fit, uncached", f"{type(error).__name__}: {error}")
    try:
        found = _trained(program, folder, inputs, labels, folder / "cache")
    except fl.FrostlineError as error:
        return _refusal(error, "fit, cached")
    except Exception as error:
        return Outcome("crash", "fit, cached", f"{type(error).__name__}: {error}")
    gap = _gap(found, expected)
    if not gap:
        return _uncached_law(program, folder, inputs, labels) if program.seed % _PLAIN_EVERY == 0 else None
    return _told(gap, "fit", found, expected, _trained(program, folder, inputs, labels, False, is_nudged=True))


def _told(
    gap: str, where: str, found: dict[str, Tensor], expected: dict[str, Tensor], nudged: dict[str, Tensor]
) -> Outcome:
    """A difference; it says nothing where a change of the samples in the last digits makes one as large."""
    size = max(_difference(found[name], value) for name, value in expected.items() if name in found)
    noise = max(_difference(nudged[name], value) for name, value in expected.items() if name in nudged)
    if size < noise * _MARGIN:
        return Outcome("invalid", "ill-conditioned", gap)
    return Outcome("different", where, gap)


def _plain_law(program: Program, folder: Path) -> Outcome | None:
    """A cached training is the loop that anybody would write.

    Where `fit` says that it leaves out noise of the frozen side, a plain loop draws it: such models get another law.
    """
    inputs, labels = make_samples(program)
    try:
        found, said, _ = _trained_alone(program, folder, inputs, labels, folder / "cache")
    except fl.FrostlineError as error:
        return _refusal(error, "fit, cached")
    except Exception as error:
        return Outcome("crash", "fit, cached", f"{type(error).__name__}: {error}")
    if _LEFT_OUT in said:
        return _fit_law(program, folder)
    count = len(labels)
    epochs = [epoch_order(count, shuffle=True, seed=program.seed, epoch=epoch).tolist() for epoch in range(2)]
    order = [*epochs[0], *epochs[1]]
    expected = _trained_plainly(program, folder, inputs, labels, order)
    gap = _gap(found, expected)
    if not gap:
        return None
    nudged = _trained_plainly(program, folder, inputs, labels, order, is_nudged=True)
    return _told(gap, "plain loop", found, expected, nudged)


def _uncached_law(program: Program, folder: Path, inputs: Any, labels: Tensor) -> Outcome | None:
    """An uncached training by `fit` is that loop, too, with the samples in the order in which `fit` has read them."""
    found, said, read = _trained_alone(program, folder, inputs, labels, False)
    if _LEFT_OUT in said:
        return None
    expected = _trained_plainly(program, folder, inputs, labels, read[-2 * len(labels) :])
    gap = _gap(found, expected)
    return Outcome("different", "plain loop, uncached", gap) if gap else None


def _trained_alone(
    program: Program, folder: Path, inputs: Any, labels: Tensor, cache: Path | bool
) -> tuple[dict[str, Tensor], str, list[int]]:
    """(the state, what `fit` has said, the samples that it has read) of a training without anything beside it."""
    data, said = NotingList(as_dataset(inputs, labels)), io.StringIO()
    loss = "cross_entropy" if program.output == "tensor" else _loss_of_any
    with made(program, folder) as model, contextlib.redirect_stderr(said):
        fl.fit(model, data, loss=loss, epochs=2, batch_size=program.batch, cache=cache, progress=False, monitor=False,
               **_options(program))  # fmt: skip
        return _state_of(model), said.getvalue(), data.read


def _trained_plainly(
    program: Program, folder: Path, inputs: Any, labels: Tensor, order: list[int], *, is_nudged: bool = False
) -> dict[str, Tensor]:
    with made(program, folder) as model:
        inputs = _nudged(model, inputs) if is_nudged else inputs
        plain_training(model, inputs, labels, order, batch=program.batch, **_options(program))
        return _state_of(model)


def _options(program: Program) -> dict[str, Any]:
    return {"optimizer": partial(OPTIMIZERS[program.optimizer], lr=0.02), "seed": program.seed}


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    found = {f"weight {name}": value.detach().clone() for name, value in model.named_parameters()}
    return found | {f"buffer {name}": value.clone() for name, value in model.named_buffers()}


def _trained(
    program: Program, folder: Path, inputs: Any, labels: Tensor, cache: Path | bool, *, is_nudged: bool = False
) -> dict[str, Tensor]:
    with made(program, folder) as model:
        inputs = _nudged(model, inputs) if is_nudged else inputs
        data = as_dataset(inputs, labels)
        loss = "cross_entropy" if program.output == "tensor" else _loss_of_any
        settings = {"monitor": False} | _SETTINGS[program.seed % len(_SETTINGS)]
        result = fl.fit(model, data, data[::3], loss=loss, epochs=2, batch_size=program.batch, lr=0.02,
                        optimizer=program.optimizer, cache=cache, progress=False, seed=program.seed % 1000,
                        **settings)  # fmt: skip
        return _state_of(model) | {"validation losses": torch.tensor([epoch.val_loss for epoch in result.history])}


def _loss_of_any(output: Any, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits(output), labels)


def _nudged(model: nn.Module, inputs: Any) -> Any:
    """The samples with other last digits; of samples that are whole numbers, the weights have them."""

    def nudge(tensor: Tensor) -> Tensor:
        return tensor * (1 + 1e-6) if tensor.is_floating_point() else tensor

    if not any(tensor.is_floating_point() for tensor in leaves(inputs).values()):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(nudge(parameter))
        return inputs
    return map_tensors(inputs, nudge)


def _refusal(error: fl.FrostlineError, where: str) -> Outcome:
    if not all(part.strip() for part in error.parts().values()):
        return Outcome("crash", where, f"a refusal that lacks a part: {error.parts()}")
    return Outcome("refused", where, f"{error.what} | {error.where} | {error.received}")
