"""Trains a copy under a monitor, and gathers everything that the rules judge by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostline import remedies
from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError, FrostlineError
from frostline.core.layers import is_pinned
from frostline.core.restore import kept_buffers, kept_generators, kept_modes
from frostline.diagnosis.experiments.batches import finite_rows
from frostline.diagnosis.experiments.score import Score, mean_loss, score
from frostline.diagnosis.experiments.trial import Patient, train
from frostline.diagnosis.monitor.evidence import facts_of_input
from frostline.diagnosis.monitor.monitor import Monitor
from frostline.diagnosis.probes.loss import probe_loss
from frostline.diagnosis.probes.outliers import facts_of_outliers, facts_of_targets, usual_limit
from frostline.diagnosis.probes.wiring import idle_parts, mixes_samples
from frostline.diagnosis.rules.input_scale import oddness
from frostline.diagnosis.rules.records import Evidence, InputFacts, NormFacts, OutlierFacts, StepRecord, TargetFacts
from frostline.diagnosis.rules.spikes import FAR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_SEEN_SAMPLES = 512  # by which the scale of the inputs is judged
_OF_MASKS = 2  # values
_AT_ONCE = 2**20  # values that are looked at in one go
_COMPARED = 20  # batches on which BatchNorm is compared, and the model scored


@dataclass(frozen=True)
class Observation:
    """One training, seen from all sides."""

    evidence: Evidence
    score: Score

    @property
    def first_loss(self) -> float:
        """Of the first step; infinite if there was none."""
        return next((loss for _, loss in self.evidence.losses), math.inf)


class Observer:
    """Trains a patient under a monitor, part by part, and gathers what there is to see so far.

    ```python
    with Observer(patient, data, loss_fn, every=5) as observer:
        observer.train(30)
        evidence = observer.evidence
    ```

    Args:
        patient: Trained in place.
        data: What it trains on.
        loss_fn: callable(output, target) -> scalar.
        every: Steps from one look at all layers to the next.
        seed: Of the noise in the first part; the others follow by their steps.
        skips_inputs: True leaves out steps whose input is not finite.
        whole: All the batches as they were given, in which rows and values that stand out are looked up.

    Attributes:
        steps: Batches that were used.
        num_skipped: Of these, left out.
    """

    def __init__(
        self, patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, every: int,
        seed: int = 0, skips_inputs: bool = False, whole: Sequence[Batch] | None = None,
    ) -> None:  # fmt: skip
        self._seed, self._skips_inputs = seed, skips_inputs
        self._patient, self._data, self._loss_fn = patient, data, loss_fn
        self._whole = whole or data
        self._loss = _facts_of_loss(patient.model, data, loss_fn)
        self._statistics = _running_statistics(patient.model)
        self._monitor = Monitor(patient.model, patient.optimizer, every=every, budget=math.inf)
        self._norms: tuple[float, ...] = ()
        self._compared: NormFacts | None = None
        self._inputs: InputFacts | None = None
        self._outliers: OutlierFacts | None = None
        self._targets: TargetFacts | None = None
        self._has_facts = False  # of all the data: they stay the same
        self.steps = self.num_skipped = 0

    def __enter__(self) -> Observer:
        self._monitor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._monitor.__exit__(*error)

    def train(self, steps: int) -> None:
        """Train on, until so many of the batches have been used."""
        part = self._data[self.steps : steps]
        seen = train(
            self._patient, part, self._loss_fn, monitor=self._monitor, seed=self._seed + self.steps,
            skips_inputs=self._skips_inputs,
        )  # fmt: skip
        self._norms += seen.norms
        self.num_skipped += seen.num_skipped
        self.steps += len(part)
        self._monitor.every = max(self._monitor.every, len(part) // 2)  # the first steps tell most

    @property
    def evidence(self) -> Evidence:
        """All that was seen so far."""
        seen = self._monitor.evidence
        data = self._data[: self.steps]
        if not self._has_facts:
            self._has_facts = True
            self._inputs = _facts_of_inputs(seen, self._data)
            may_stand_out = _may_stand_out(self._inputs, self._data) or self._whole is not self._data
            self._outliers = facts_of_outliers(self._whole) if may_stand_out else None
            self._targets = facts_of_targets(self._whole)
        if self.steps <= _COMPARED or self._compared is None:
            self._compared = _compare_norms(self._patient, data, self._loss_fn, self._statistics)
        seen = replace(
            seen, inputs=self._inputs, outliers=self._outliers, targets=self._targets, loss=self._loss,
            gradient_norms=self._norms, norms=self._compared,
        )  # fmt: skip
        is_whole = all(math.isfinite(loss) for _, loss in seen.losses)
        has_looked = self._skips_inputs and not self.num_skipped and is_whole  # at every batch, before it was used
        return seen if has_looked else _with_odd_rows(seen, data if self._whole is self._data else self._whole)


def observe(
    patient: Patient, data: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *,
    samples: int = 60, whole: Sequence[Batch] | None = None, epochs: float | None = None,
) -> Observation:  # fmt: skip
    """Train the patient on the data, measure every layer so many times, and judge by other data.

    Args:
        patient: Trained in place.
        data: What it trains on.
        judged: What it is judged by.
        loss_fn: callable(output, target) -> scalar.
        samples: How often every layer is measured.
        whole: All the batches as they were given, in which values that are not finite are looked up.
        epochs: How many epochs these are; None if not known.
    """
    named = patient.model.named_parameters()
    start = {name: value.detach().clone() for name, value in named if value.requires_grad and not is_lazy(value)}
    every = max(1, len(data) // (samples * patient.accumulation))
    observer = Observer(patient, data, loss_fn, every=every, whole=whole)
    mixes = mixes_samples(patient.model, *finite_rows(data[:1])[0])
    with observer:
        observer.train(len(data))
    reached = score(patient.model, judged, loss_fn, compares=True)
    skill = None if reached.skill is None else max(reached.skill, reached.lead or 0.0)
    idle = idle_parts(patient, start, data, loss_fn)
    evidence = replace(observer.evidence, skill=skill, mixes=mixes, idle=idle, epochs=epochs)
    return Observation(evidence, reached)


def _facts_of_loss(model: nn.Module, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Any:
    inputs, target = finite_rows(data[:1])[0]
    with kept_modes(model), kept_buffers(model), kept_generators():
        model.eval()
        output = _called(model, inputs, target, loss_fn)
        return probe_loss(loss_fn, output, target)  # it may draw


def _called(model: nn.Module, inputs: Any, target: Any, loss_fn: Callable[[Any, Any], Tensor]) -> Any:
    """The model's output, of which a loss can be taken."""
    step = "The model cannot be called with these inputs."
    try:
        output = batches.call(model, inputs)
        step = "The loss cannot be taken of this output and target."
        with torch.no_grad():
            loss_fn(output, target)
    except FOREIGN as error:
        given = f"inputs {batches.describe(inputs)}, target {batches.describe(target)}"
        raise DataError(
            what=step, where="batch 0, in evaluation mode", received=f"{given}; {type(error).__name__}: {error}",
            do="make loss_fn(model(inputs), target) work on that batch: shapes, dtypes, and labels of shape (N,) for "
            "cross_entropy (target.squeeze(1), or target.argmax(1) of one-hot labels).",
        ) from error  # fmt: skip
    return output


def _norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module)
    }  # fmt: skip


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: m.running_mean.detach().clone() for name, m in _norms(model).items() if m.running_mean is not None}


def _compare_norms(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor],
    before: dict[str, Tensor],
) -> NormFacts | None:  # fmt: skip
    """Losses with running, exact and batch statistics; layers that move although they are frozen."""
    norms = _norms(patient.model)
    if not norms:
        return None
    frozen = [
        name for name, module in norms.items()
        if module.affine and not module.weight.requires_grad and module.training
        and name in before and not torch.equal(before[name], _mean(module))
    ]  # fmt: skip
    kept = {name: module for name, module in norms.items() if module.training and module.running_mean is not None}
    if not kept:
        return NormFacts(tuple(norms), moving_in_frozen=tuple(frozen))
    part = data[-_COMPARED:]
    with kept_buffers(patient.model):
        in_training = mean_loss(patient.model, part, loss_fn, train_mode=True)
    in_eval = mean_loss(patient.model, part, loss_fn)
    exact = _exact(patient, data, part, loss_fn)
    smallest = min(_values_per_channel(patient.model, kept, data[0][0]))
    momenta = [module.momentum for module in kept.values() if module.momentum is not None]
    return NormFacts(
        tuple(kept), smallest, min(momenta, default=None), _finite(in_training), _finite(in_eval),
        _finite(exact), tuple(frozen),
    )  # fmt: skip


def _exact(
    patient: Patient, data: Sequence[Batch], part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> float:
    try:
        change = remedies.reestimate_batchnorm(patient.model, data)
    except FrostlineError:  # values that are not finite: another rule says so
        return math.nan
    try:
        return mean_loss(patient.model, part, loss_fn)
    finally:
        change.undo()


def _values_per_channel(model: nn.Module, norms: dict[str, Any], inputs: Any) -> list[int]:
    counts: list[int] = []

    def hear(_: nn.Module, args: tuple[Any, ...]) -> None:
        counts.append(args[0].numel() // args[0].shape[1])

    handles = [module.register_forward_pre_hook(hear) for module in norms.values()]
    try:
        with kept_modes(model), kept_buffers(model), torch.no_grad():
            model.eval()
            batches.call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts or [2**31]


def _with_odd_rows(evidence: Evidence, data: Sequence[Batch]) -> Evidence:
    """The first batch whose inputs or targets are not finite, looked up in the data: it may lie between samples.

    Only where nothing else was not finite before it. NaN in a target may be how a loss is told what not to ask: it
    counts in the first such batch alone, and there only if the loss was not finite for the first time.
    """
    has_masks = sum(batches.are_finite(inputs) for inputs, _ in data) < len(data) / 2
    if has_masks and not any(batches.is_broken(inputs) for inputs, _ in data):
        return evidence  # of -inf, in most batches
    bad = _first_odd_loss(evidence)
    first = min((record.step for record in evidence.records if record.nonfinite is not None), default=math.inf)
    has_marks = False
    for step, (inputs, target) in enumerate(data):
        if step > min(bad, first):  # up to here no batch was left out: losses and records are numbered as batches are
            return evidence
        in_inputs, in_target = _odd_rows(inputs), _odd_rows(target)
        is_odd_target = in_target is not None and step == bad and not has_marks
        has_marks = has_marks or in_target is not None
        rows = in_inputs if in_inputs is not None else in_target
        if rows is not None and (in_inputs is not None or is_odd_target):
            records = [r for r in evidence.records if r.step < step]
            odd = StepRecord(step, None, None, (), "input" if in_inputs is not None else "target", tuple(rows[:16]))
            return replace(evidence, records=(*records, odd))
    return evidence


def _first_odd_loss(evidence: Evidence) -> float:
    """The batch of the first loss that is not finite, of those that were used: a step that a clip leaves out is one."""
    start = evidence.losses[0][0] if evidence.losses else 0
    return next((at for at, (_, loss) in enumerate(evidence.losses, start) if not math.isfinite(loss)), math.inf)


def _odd_rows(part: Any) -> list[int] | None:
    """Rows that are not finite, of the first tensor that has some; None if all are."""
    for tensor in () if batches.are_finite(part) else batches.leaves(part).values():
        if tensor.is_floating_point() and tensor.dim() and not bool(torch.isfinite(tensor).all()):
            return (~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)).nonzero().flatten().tolist()
    return None


def _may_stand_out(facts: InputFacts | None, data: Sequence[Batch]) -> bool:
    """Whether rows may be far out of the data: in the first input, as was seen, or in what nobody has looked at."""
    inputs, target = data[0]
    others = [*list(batches.leaves(inputs).values())[1:], *batches.leaves(target).values()]
    return facts is None or facts.outlier > FAR or any(tensor.is_floating_point() for tensor in others)


def _facts_of_inputs(evidence: Evidence, data: Sequence[Batch]) -> InputFacts | None:
    """The scale of many usual inputs, and their largest outlier: the monitor saw those of one batch.

    Where a model takes several, it is that of the one that is furthest from what layers can use.
    """
    by_name: dict[str, list[Tensor]] = {}
    for inputs, _ in data:
        for name, tensor in batches.leaves(inputs).items():
            if tensor.dim() > 1 and tensor.numel() and tensor.is_floating_point():
                by_name.setdefault(name, []).append(tensor)
    first = next(iter(by_name), "")
    kept = {name: own for name, own in by_name.items() if name == first or _are_features(own[0])}
    found = [(name, facts) for name, own in kept.items() if (facts := _facts_of_input(own)) is not None]
    if not found:
        return evidence.inputs
    name, facts = max(found, key=lambda one: oddness(one[1]))
    kind = next((layer.kind for layer in evidence.layers), "")
    has_several = len(batches.leaves(data[0][0])) > 1
    return replace(facts, is_normalised=kind == "norm", name=name if has_several else "")


def _are_features(tensor: Tensor) -> bool:
    """False for masks, which hold two values, and for one number per sample, such as a time."""
    return tensor[0].numel() > 1 and len(tensor[:8].unique()) > _OF_MASKS


def _facts_of_input(tensors: list[Tensor]) -> InputFacts | None:
    alike = [tensor for tensor in tensors if tensor.shape[1:] == tensors[0].shape[1:]]
    step = max(1, _AT_ONCE // max(1, tensors[0].numel())) if len(alike) == len(tensors) else 1
    joined = [torch.cat(tensors[at : at + step]).detach().flatten(1) for at in range(0, len(tensors), step)]
    sizes = [part.float().abs().amax(dim=1) for part in joined]
    sizes_N = torch.cat(sizes).nan_to_num(0.0, 0.0, 0.0)
    outlier = float(sizes_N.max() / sizes_N.median().clamp_min(1e-12))
    count = -(-_SEEN_SAMPLES // max(1, len(alike[0])))
    rows = torch.cat(alike[:count])
    if outlier > FAR:  # a rule of its own names rare rows; the scale is that of the others
        rows = rows[rows.flatten(1).float().abs().amax(dim=1) <= usual_limit([sizes_N])]
    return facts_of_input(rows, (), {}, outlier=outlier)


def _mean(module: Any) -> Tensor:
    return module.running_mean


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
