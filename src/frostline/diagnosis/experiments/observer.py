"""Trains a copy under a monitor, and gathers everything that the rules judge by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_buffers, kept_generators, kept_modes
from frostline.diagnosis.experiments.batches import finite_rows
from frostline.diagnosis.experiments.batchnorm_probe import COMPARED, compare_norms, running_statistics
from frostline.diagnosis.experiments.collapse import directions_apart
from frostline.diagnosis.experiments.input_statistics import facts_of_inputs, may_stand_out
from frostline.diagnosis.experiments.learnt_rows import facts_of_heart
from frostline.diagnosis.experiments.nonfinite_rows import with_nonfinite_rows
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.experiments.trial import Patient, train
from frostline.diagnosis.monitor.monitor import Monitor
from frostline.diagnosis.probes.axes import facts_of_axes
from frostline.diagnosis.probes.broadcasts import joined_shapes
from frostline.diagnosis.probes.classes import facts_of_classes, facts_of_numbers, only_value
from frostline.diagnosis.probes.drowned import drowned_at
from frostline.diagnosis.probes.evaluation_pass import Probes
from frostline.diagnosis.probes.loss import probe_loss
from frostline.diagnosis.probes.loss_aim import facts_of_aim
from frostline.diagnosis.probes.loss_domain import facts_of_domain
from frostline.diagnosis.probes.loss_terms import facts_of_terms
from frostline.diagnosis.probes.lost_signal import facts_of_signal
from frostline.diagnosis.probes.modes import facts_of_modes, follows_inputs, vary
from frostline.diagnosis.probes.outliers import facts_of_outliers, facts_of_targets
from frostline.diagnosis.probes.output_bounds import facts_of_bounds
from frostline.diagnosis.probes.outside import facts_of_outside
from frostline.diagnosis.probes.own_targets import copies_at_first, facts_of_own_targets
from frostline.diagnosis.probes.places import facts_of_places
from frostline.diagnosis.probes.random_weights import frozen_at_random
from frostline.diagnosis.probes.reached_places import facts_of_reach
from frostline.diagnosis.probes.repeated_layers import shared_layers
from frostline.diagnosis.probes.rows import facts_of_rows
from frostline.diagnosis.probes.shifted_targets import facts_of_shifts
from frostline.diagnosis.probes.side_effects import facts_of_side_effects
from frostline.diagnosis.probes.slopes import facts_of_slopes
from frostline.diagnosis.probes.summands import summands_of
from frostline.diagnosis.probes.wiring import (
    climb_of_step,
    cut_off,
    depends_on_place,
    idle_parts,
    mixes_samples,
    past_all_others,
    stands_still,
    unused_twins,
    zero_walls,
)
from frostline.diagnosis.rules.records import Evidence, InputFacts, NormFacts, OutlierFacts, TargetFacts
from frostline.remedies.scaling import Rescaled, standardises_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.rules.wiring_records import SignalFacts


_FIT = (
    "make loss_fn(model(inputs), target) work on that batch: shapes, dtypes, and labels of shape (N,) for "
    "cross_entropy (target.squeeze(1), or target.argmax(1) of one-hot labels)."
)
_RETURN = (
    "return what the loss reads of the model, beside its output (return output, penalty): copies of the model are "
    "trained, and the loss has the model that it was made with."
)
_LEARNS_WELL = 0.5  # of what the constant-prediction baseline leaves


@dataclass(frozen=True)
class Observation:
    """One training, seen from all sides.

    Attributes:
        evidence: What the rules judge by.
        score: On held-out samples, after it.
        is_whole: False if it was interrupted: then nothing is scored.
    """

    evidence: Evidence
    score: Score
    is_whole: bool = True

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
        self._statistics = running_statistics(patient.model)
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
    def has_begun(self) -> bool:
        """True if steps were taken, though an interruption may have ended the part that they belong to."""
        return bool(self._monitor.evidence.losses)

    @property
    def evidence(self) -> Evidence:
        """All that was seen so far."""
        seen = self._monitor.evidence
        data = self._data[: max(1, self.steps or len(seen.losses))]
        if not self._has_facts:
            self._has_facts = True
            self._inputs = facts_of_inputs(seen, self._data)
            looks = self._whole is not self._data or may_stand_out(self._inputs, self._data)
            self._outliers = facts_of_outliers(self._whole) if looks else None
            self._targets = facts_of_targets(self._whole)
            self._scale_inside()
        if self.steps <= COMPARED or self._compared is None:
            self._compared = compare_norms(self._patient, data, self._loss_fn, self._statistics)
        seen = replace(
            seen, inputs=self._inputs, outliers=self._outliers, targets=self._targets, loss=self._loss,
            gradient_norms=self._norms, norms=self._compared,
        )  # fmt: skip
        is_whole = all(math.isfinite(loss) for _, loss in seen.losses)
        has_looked = self._skips_inputs and not self.num_skipped and is_whole  # at every batch, before it was used
        return seen if has_looked else with_nonfinite_rows(seen, data if self._whole is self._data else self._whole)

    def _scale_inside(self) -> None:
        """Of a model that standardises inputs or rescales outputs itself, what stands inside of that counts."""
        if self._inputs is not None and standardises_inputs(self._patient.model):
            self._inputs = replace(self._inputs, is_normalised=True)
        last = next((module for module in self._patient.model.modules() if isinstance(module, Rescaled)), None)
        if self._targets is not None and last is not None:
            mean, unit = float(last.mean), float(last.deviation)
            self._targets = TargetFacts((self._targets.mean - mean) / unit, self._targets.deviation / unit)


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
    start = trainable_weights(patient.model)
    every = max(1, len(data) // (samples * patient.accumulation))
    observer = Observer(patient, data, loss_fn, every=every, whole=whole)
    probes, first = Probes(), finite_rows(data[:1])[0]
    mixes = probes.run(("FL506",), lambda: mixes_samples(patient.model, *first), None)
    before = probes.run(("FL404",), lambda: follows_inputs(patient.model, first[0]), None)
    apart = directions_apart(patient.model, first, loss_fn)
    late = finite_rows(data[-1:])[0]  # which no step has changed yet
    copies = copies_at_first(patient.model)
    climbs = probes.run(("FL517",), lambda: climb_of_step(patient.copy(), first, loss_fn), None)
    effects = probes.run(("FL516",), lambda: facts_of_side_effects(patient.model, late, loss_fn), None)
    with observer:
        try:
            observer.train(len(data))
        except KeyboardInterrupt:
            if not observer.has_begun:
                raise
            return Observation(replace(observer.evidence, mixes=mixes), Score(0.0, math.nan), is_whole=False)
    reached = score(patient.model, judged, loss_fn, compares=True)
    skill = None if reached.skill is None else max(reached.skill, reached.lead or 0.0)
    after = probes.run(("FL404",), lambda: follows_inputs(patient.model, first[0]), None)
    still = directions_apart(patient.model, first, loss_fn)
    evidence = replace(
        observer.evidence,
        follows=(before, after) if before is not None and after is not None else None,
        directions=(apart, still) if apart is not None and still is not None else None,
        skill=skill,
        right=_right_of(reached),
        level=reached.loss / (1 - reached.skill) if reached.skill is not None and reached.skill < 1 else None,
        mixes=mixes,
        effects=effects,
        epochs=epochs,
        classes=facts_of_classes(whole or data),
        heart=facts_of_heart(patient.model, data, reached, loss_fn),
        only_target=only_value(whole or data),
        climbs=climbs,
        frozen_at_random=frozen_at_random(patient.model),
        own_targets=probes.run(
            ("FL520",), lambda: facts_of_own_targets(patient.model, copies, start, late, loss_fn), None
        ),
        failed_probes=tuple(probes.failed),
    )
    return Observation(with_certain_evidence(evidence, patient, start, data, loss_fn), reached)


def _right_of(reached: Score) -> float | None:
    """What is right beyond the constant-prediction baseline, of all that could be; None where only losses are known."""
    if reached.is_of_loss or reached.lead is None:
        return None
    return reached.lead / max(1e-6, 1 - reached.share + reached.lead)


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that train, by name."""
    named = model.named_parameters()
    return {name: value.detach().clone() for name, value in named if value.requires_grad and not is_lazy(value)}


def with_certain_evidence(
    evidence: Evidence, patient: Patient, start: dict[str, Tensor], data: Sequence[Batch],
    loss_fn: Callable[[Any, Any], Tensor],
) -> Evidence:  # fmt: skip
    """The same, with what needs no experiment: how the network is wired, after some training.

    Args:
        evidence: What was seen of the training.
        patient: After it.
        start: Its trainable parameters before, by name.
        data: What it was trained on.
        loss_fn: callable(output, target) -> scalar.
    """
    (batch,) = finite_rows(data[:1])
    model, probes = patient.model, Probes()
    is_still, gradient = stands_still(patient, start, batch, loss_fn)
    idle = idle_parts(patient, start, data, loss_fn)
    run = probes.run
    cut, dropped, unheard = run(("FL405",), lambda: cut_off(model, idle, batch, loss_fn), ((), (), ()))
    placed = None if _is_one_graph(data) else run(("FL506",), lambda: depends_on_place(model, batch[0]), None)
    evidence = replace(
        evidence, is_placed=placed, idle=idle, stands_still=is_still, still_gradient=gradient if is_still else None,
        plain_gradient=gradient, inputs_vary=vary(batch[0], batches.batch_size(batch[0])),
        numbers=run(("FL512",), lambda: facts_of_numbers(data), None),
        rows=run(("FL514", "FL515"), lambda: facts_of_rows(data), None),
        shifts=run(("FL404", "FL507"), lambda: facts_of_shifts(data), None),
        shared=shared_layers(model), classes=evidence.classes or facts_of_classes(data),
        walls=run(("FL405",), lambda: zero_walls(patient, batch, loss_fn), ()),
        past=run(("FL405",), lambda: past_all_others(patient, idle, batch, loss_fn), ()),
        cut_off=cut, dropped=dropped, unheard=unheard, twins=unused_twins(model, idle),
        outside=run(("FL405",), lambda: facts_of_outside(model, batch, loss_fn, patient.parameters), None),
        modes=run(("FL412", "FL604", "FL605", "FL606"), lambda: facts_of_modes(model, batch, loss_fn), None),
        axes=run(("FL506", "FL511"), lambda: facts_of_axes(model, *batch, loss_fn), None),
        bound=run(("FL503",), lambda: facts_of_bounds(model, batch, loss_fn), None),
        reach=run(("FL513",), lambda: facts_of_reach(model, batch[0], start), None),
        signal=run(("FL513",), lambda: _facts_of_signal(evidence, model, start, data), None),
        drowned=run(("FL501",), lambda: drowned_at(model, start, batch[0]), None),
        slopes=run(("FL518",), lambda: facts_of_slopes(model, start, batch, loss_fn), None),
        summands=run(("FL519",), lambda: summands_of(model, start, data, loss_fn), ()),
        places=run(("FL509", "FL510"), lambda: facts_of_places(model, [batch, *data[1:]], loss_fn), None),
    )  # fmt: skip
    return replace(evidence, failed_probes=(*evidence.failed_probes, *probes.failed))


def _is_one_graph(data: Sequence[Batch]) -> bool:
    """Whether all batches have the same inputs, as of a graph whose rows are nodes: these are what their places are."""
    first, last = (list(batches.leaves(inputs).values()) for inputs, _ in (data[0], data[-1]))
    return len(first) == len(last) and all(map(torch.equal, first, last))


def _facts_of_signal(
    evidence: Evidence, model: nn.Module, start: dict[str, Tensor], data: Sequence[Batch]
) -> SignalFacts | None:  # fmt: skip
    """None for a network that learns well, where nothing is lost that it needs."""
    is_sick = evidence.skill is not None and evidence.skill < _LEARNS_WELL
    return facts_of_signal(model, start, data) if is_sick else None


def _facts_of_loss(model: nn.Module, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Any:
    inputs, target = finite_rows(data[:1])[0]
    with kept_modes(model), kept_buffers(model), kept_generators():
        model.eval()
        output = _called(model, inputs, target, loss_fn)
        found, domain = probe_loss(loss_fn, output, target), facts_of_domain(loss_fn, output, target)  # may draw
        return replace(
            found, domain=domain, terms=facts_of_terms(loss_fn, output, data),
            aim=facts_of_aim(loss_fn, output, target),
            joined=joined_shapes(loss_fn, output, target),
        )  # fmt: skip


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
        reads_model = isinstance(error, AttributeError) and isinstance(error.obj, nn.Module)
        raise DataError(
            what=step, where="batch 0, in evaluation mode", received=f"{given}; {type(error).__name__}: {error}",
            do=_RETURN if reads_model else _FIT,
        ) from error  # fmt: skip
    return output
