"""What other tools' rules say of the published bugs: re-implemented from papers and facts about their code.

Each watches one plain training of the program, and names causes where its rules do. None is the original code; all are
read for PyTorch, where the original asks Keras for something that has another form here. The rules of AutoTrainer and
SageMaker Debugger are those of the exam of health (`exams/health/baselines`).

References:
    Schoop, Huang and Hartmann (2021), UMLAUT: Debugging Deep Learning Programs using Program Structure and Model
    Behavior; the limits are those of its repository. Wardat, Cruz, Le and Rajan (2022), DeepDiagnosis: Automatically
    Diagnosing Faults and Recommending Actionable Fixes in Deep Learning Programs; the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..health.baselines import autotrainer, sagemaker
from ..health.baselines.watch import EPOCH_STEPS, Trace, watch
from ..health.training import Setup
from .case import Batch, Published, Training
from .repairs import kept_away, score

_FLAT, _NEAR = 0.9, 0.1  # the plain rule: of the first loss; above the share of one answer
_INPUT_RANGE, _RATES, _DROPOUT = 1.0, (1e-7, 1e-2), 0.5  # UMLAUT
_TOO_GOOD, _BETTER_THAN_TRAINED = 0.95, 0.05
_VANISHED, _INACTIVE, _SATURATED_AT, _SATURATED = 1e-7, 0.7, 5.0, 0.5  # DeepDiagnosis
_VARIANCE, _STEP, _OFF, _WIDER = (1e-5, 10.0), 1e-3, 100.0, 10.0
_LINEAR = (nn.Linear, nn.Conv2d, nn.Conv1d, nn.ConvTranspose2d)
_SQUASHED = {nn.Sigmoid: (0.0, 1.0), nn.Tanh: (-1.0, 1.0), nn.ReLU: (0.0, math.inf), nn.Softmax: (0.0, 1.0)}


@dataclass
class Course:
    """One plain training, as the rivals see it.

    Attributes:
        training: After it.
        judged: Rows that were not trained on.
        trace: Numbers at the end of each epoch.
        held_out: (held-out loss, held-out score, training score) at the end of each epoch.
    """

    training: Training
    judged: Batch
    trace: Trace = field(default_factory=lambda: Trace(has_classes=False))
    held_out: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])


@dataclass(frozen=True)
class Said:
    """What a rival says of one network.

    Attributes:
        is_any: True if any rule fires, or the program ends with an error.
        families: Causes that the rules name, the first first.
    """

    is_any: bool
    families: tuple[str, ...] = ()


def follow(case: Published, *, is_sick: bool, seed: int = 1) -> Course | None:
    """Train the program under watch; None where it ends with an error of its own."""
    torch.manual_seed(seed)
    training = case.build(is_sick)
    batches, judged = kept_away(training.batches)
    course = Course(training, judged)
    is_of_classes = batches[0][1].dtype == torch.long and batches[0][1].dim() == 1 and training.measure is None

    def measure(output: Any, target: Tensor) -> float:
        return float((output.argmax(1) == target).float().mean()) if is_of_classes else 0.0

    steps, loss_fn = 0, training.loss_fn

    def counted(output: Any, target: Tensor) -> Tensor:
        nonlocal steps
        loss = loss_fn(output, target)
        steps += 1
        if steps % EPOCH_STEPS == 0:
            _look(course, loss)
        return loss

    setup = Setup(training.model, batches, counted, training.optimizer, SimpleNamespace(train_y=batches[0][1]))  # type: ignore[arg-type]
    try:
        course.trace = watch(setup, batches, measure, has_classes=is_of_classes)
    except RuntimeError:
        return None
    return course


def _look(course: Course, loss: Tensor) -> None:
    """Held-out figures at the end of an epoch, of a copy."""
    own = replace(course.training, model=copy.deepcopy(course.training.model))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        good = score(own, course.judged)
        held = float(own.loss_fn(own.model.eval()(course.judged[0]), course.judged[1]))
    course.held_out.append((held, good, float(loss.detach())))


def plain(course: Course) -> Said:
    """What anyone sees: NaN, a loss that does not fall, a score that is near that of one answer for all."""
    losses = course.trace.losses
    few = max(1, len(losses) // 10)
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    is_bad = not all(map(math.isfinite, losses)) or last > _FLAT * first
    return Said(is_bad or score(course.training, course.judged) < _one_answer(course.judged[1]) + _NEAR)


def _one_answer(target: Tensor) -> float:
    """The score of the best single answer."""
    if target.dtype == torch.long:
        return float(target[target >= 0].flatten().bincount().max() / (target >= 0).sum())
    if bool(((target == 0) | (target == 1)).all()):
        return float(max(target.mean(), 1 - target.mean()))
    return 0.0


def by_autotrainer(course: Course) -> Said:
    """Its problems, as families."""
    found = autotrainer.problems(course.trace)
    return Said(bool(found), tuple(dict.fromkeys(autotrainer.FAMILIES[problem] for problem in found)))


def by_sagemaker(course: Course) -> Said:
    """Seven of its rules."""
    found = sagemaker.rules(course.trace)
    return Said(bool(found), tuple(dict.fromkeys(family for _, family in found)))


def by_umlaut(course: Course) -> Said:
    """Structure first, then what each epoch shows, in the order in which it reports."""
    own = course.training
    inputs = torch.cat([x.reshape(-1)[:4096] for x, _ in own.batches[:50]])
    found: list[str] = []
    last, name = list(own.model.modules())[-1], getattr(own.loss_fn, "__name__", "")
    takes_logits = {"cross_entropy": True, "binary_cross_entropy_with_logits": True, "nll_loss": False}.get(name)
    is_squashed = isinstance(last, nn.Softmax | nn.Sigmoid | nn.LogSoftmax)
    if takes_logits is not None and takes_logits == is_squashed:
        found.append("loss_mismatch")
    if _has_linear_pair(own.model):
        found.append("activation")
    if not inputs.is_floating_point() or float(inputs.abs().max()) > _INPUT_RANGE:
        found.append("input_scale")
    if not all(map(math.isfinite, course.trace.losses)):
        found.append("nonfinite")
    if not _RATES[0] <= own.optimizer.param_groups[0]["lr"] <= _RATES[1]:
        found.append("learning_rate")
    if any(isinstance(one, nn.modules.dropout._DropoutNd) and one.p > _DROPOUT for one in own.model.modules()):
        found.append("dropout")
    trained = [look.accuracy for look in course.trace.looks]
    pairs = list(zip(course.held_out, trained, strict=False))
    if any(b[0] > a[0] and b[2] < a[2] for a, b in pairwise(course.held_out)):
        found.append("overfitting")
    if course.trace.has_classes and any(
        good > _TOO_GOOD or good > own_score + _BETTER_THAN_TRAINED for (_, good, _), own_score in pairs
    ):
        found.append("leak")
    return Said(bool(found), tuple(found))


def _has_linear_pair(model: nn.Module) -> bool:
    """True if a layer of a sequence follows another with nothing between them."""
    sequences = [list(one) for one in model.modules() if isinstance(one, nn.Sequential)]
    plain = [[part for part in one if not isinstance(part, nn.Identity | nn.Dropout)] for one in sequences]
    return any(isinstance(a, _LINEAR) and isinstance(b, _LINEAR) for one in plain for a, b in pairwise(one))


def by_deepdiagnosis(course: Course) -> Said:
    """Its eight conditions, in the order in which it looks for them; the first fix of its tree names the cause."""
    own, inputs = course.training, course.training.batches[-1][0]
    seen = _layers_seen(own, inputs, course.training.batches[-1][1])
    found = [name for name, is_there in seen if is_there]
    losses, looks = course.trace.losses, course.trace.looks
    if not all(map(math.isfinite, losses)):
        found.insert(0, "exploding")
    means = [sum(losses[at : at + EPOCH_STEPS]) / EPOCH_STEPS for at in range(0, len(losses), EPOCH_STEPS)]
    is_stuck = any(after >= before for before, after in pairwise(means))
    falls = course.trace.has_classes and any(b.accuracy <= a.accuracy for a, b in pairwise(looks))
    if not found and is_stuck and (falls or not course.trace.has_classes):
        found.append("learning_rate")  # neither loss nor accuracy improves: another optimizer or rate
    return Said(bool(found), tuple(dict.fromkeys(found)))


def _layers_seen(own: Training, inputs: Any, target: Tensor) -> list[tuple[str, bool]]:
    """(family of the first fix, whether the condition holds), layer by layer, forward and backward."""
    found: list[tuple[str, bool]] = []
    last: list[tuple[nn.Module, Tensor]] = []

    def look(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not isinstance(given[0], Tensor):
            return
        mean = float(output.detach().mean())
        found.append(("exploding", not math.isfinite(mean)))
        if isinstance(module, nn.Sigmoid | nn.Tanh):
            share = (given[0].detach().abs() >= _SATURATED_AT).float().mean()
            found.append(("saturation", float(share) > _SATURATED))
        if isinstance(module, nn.ReLU):
            found.append(("dead_units", float((output.detach() <= 0).float().mean()) >= _INACTIVE))
        last[:] = [(module, output.detach())]

    leaves = [module for module in own.model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(look) for module in leaves]
    own.optimizer.zero_grad()
    try:
        loss = own.loss_fn(own.model(inputs), target)
    finally:
        for hook in hooks:
            hook.remove()
    found.append(("loss_mismatch", bool(last) and _is_out_of_range(*last[0], target, own)))
    before = [parameter.detach().clone() for parameter in own.model.parameters()]
    loss.backward()
    gradients = [parameter.grad for parameter in own.model.parameters() if parameter.grad is not None]
    found.append(("vanishing", any(float(gradient.abs().mean()) < _VANISHED for gradient in gradients)))
    own.optimizer.step()
    for parameter, old in zip(own.model.parameters(), before, strict=True):
        if parameter.dim() < 2:
            continue
        step = float((parameter.detach() - old).norm() / old.norm().clamp_min(1e-12))
        variance = float(old.var()) if old.numel() > 1 else 1.0
        found += [
            ("learning_rate", step == 0.0),
            ("initialization", not _VARIANCE[0] <= variance <= _VARIANCE[1]),
            ("learning_rate", not _STEP / _OFF <= step <= _STEP * _OFF),
        ]
    return found


def _is_out_of_range(module: nn.Module, output: Tensor, target: Tensor, own: Training) -> bool:
    """Whether the last function cannot give the targets, or a linear one runs far beyond them."""
    if own.loss_fn in (F.cross_entropy, F.nll_loss) or target.dtype == torch.long:
        return False
    low, high = next((span for kind, span in _SQUASHED.items() if isinstance(module, kind)), (-math.inf, math.inf))
    if float(target.min()) < low or float(target.max()) > high:
        return True
    is_linear = isinstance(module, _LINEAR) and own.loss_fn is F.mse_loss
    return is_linear and float(output.max() - output.min()) > _WIDER * float(target.max() - target.min())


RIVALS: dict[str, Callable[[Course], Said]] = {
    "plain rule": plain,
    "AutoTrainer's rules": by_autotrainer,
    "SageMaker Debugger's rules": by_sagemaker,
    "UMLAUT's rules": by_umlaut,
    "DeepDiagnosis' rules": by_deepdiagnosis,
}


def ask_rivals(case: Published) -> dict[str, tuple[Said, Said]]:
    """What each says of the sick network, and of the twin; a program that ends with an error speaks for itself."""
    sick, twin = (follow(case, is_sick=is_sick) for is_sick in (True, False))
    found: dict[str, tuple[Said, Said]] = {}
    for name, rule in RIVALS.items():
        own, others = (Said(True) if course is None else rule(course) for course in (sick, twin))
        found[name] = own, others
    return found
