"""The same batches with one part swapped for a plain one: the swap that makes it learn names the part."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, FrostlineError
from frostline.core.restore import kept_generators, seed_generators
from frostline.diagnosis.experiments.batches import finite_rows
from frostline.diagnosis.experiments.plain_parts import PlainNetwork, shaped, usual_loss
from frostline.diagnosis.experiments.retrained import twice_the_steps
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.experiments.trial import Patient, train
from frostline.diagnosis.rules.wiring_records import CounterpartFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from frostline.diagnosis.experiments.examination import Examination

    Loss = Callable[[Any, Any], Tensor]

_POOR = 0.8  # of what is right beyond the constant-prediction baseline: a network that gets less is compared
_LEARNABLE, _AHEAD = 0.5, 0.25  # what the plain parts together must get, and by how much more
_LEFT = 1 / 3  # of what the network leaves wrong, that they may
_RATE, _RATES = 3e-3, (3e-3, 3e-4)  # of Adam: for the plain network, and for the network itself
_CLOSES = 0.6  # of the distance between both
_KINDS = frozenset({"classes", "values", "labels"})  # whose losses compare each output with its own target
_OTHERS = frozenset({"ignored", "embeddings"})  # whose outputs are compared with each other
_ALL = 0.99  # of the targets count in the loss: of others, right answers say nothing
_SURE = 3.0  # standard errors


def facts_of_counterparts(seen: Examination) -> CounterpartFacts | None:
    """Which part it is, of a network that learns little; None where that cannot be said.

    First a plain network with the usual loss and Adam, on the same batches: what it learns can be learnt. Then each of
    optimizer, loss and network alone is swapped. Where outputs cannot be compared with targets, what is saved of the
    loss counts in place of right answers, and the loss stays.

    Args:
        seen: What was seen of the training, and what may still be spent.
    """
    compared = _Comparison.of(seen)
    if compared is None:
        return None
    first = compared.beyond(seen.seen.score)
    if not first < _POOR:
        return None
    best = compared.plain_both() if compared.has_usual else compared.plain_network()
    least = max(_LEARNABLE, first + _AHEAD, 1 - _LEFT * (1 - first))
    if best is None or compared.beyond(best) < least or not _is_sure(best, seen.seen.score):
        return None
    goal = first + _CLOSES * (compared.beyond(best) - first)

    def closes(found: Score | None) -> bool:
        return found is not None and compared.beyond(found) >= goal

    if closes(twice_the_steps(seen)):
        return None  # nothing holds it back: it is on its way
    stepped = compared.with_adam()
    if stepped is not None and closes(stepped):
        return compared.said("optimizer", stepped, best, "Adam")
    judged = compared.with_usual_loss() if compared.has_usual else None
    if judged is not None and closes(judged):
        return compared.said("loss", judged, best, compared.loss_name)
    replaced = compared.plain_network() if compared.has_usual else best
    if replaced is not None and closes(replaced) and stepped is not None and (judged is None) is not compared.has_usual:
        return compared.said("network", replaced, best, "a plain network")
    return None


def _is_same(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())


def _is_sure(found: Score, own: Score) -> bool:
    gain, error = found.gain_over(own)
    return gain > _SURE * error


class _Comparison:
    """Trainings with one part swapped; each is None where there is no time for it, or it cannot be made."""

    def __init__(self, seen: Examination, output: Tensor, usual: tuple[str, Loss] | None) -> None:
        self._seen, self._output, self._target = seen, output, seen.data[0][1]
        self.has_usual = usual is not None
        self.loss_name, self._loss = usual if usual is not None else ("", seen.loss_fn)

    @classmethod
    def of(cls, seen: Examination) -> _Comparison | None:
        """None where the loss takes no notice of targets, or what is learnt is not known."""
        loss, own = seen.seen.evidence.loss, seen.seen.score
        if loss is None or loss.aim.kind in _OTHERS or loss.aim.asked < _ALL or not math.isfinite(own.share):
            return None
        inputs, target = finite_rows(seen.data[:1])[0]
        if any(_is_same(one, target) for one in batches.leaves(inputs).values()):
            return None  # what a code is to keep, a network without one copies
        with kept_generators(), torch.enable_grad():
            output = batches.call(seen.patient.copy().model, inputs)
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.dim():
            return None
        usual = usual_loss(output, target) if loss.aim.kind in _KINDS and not own.is_of_loss else None
        if usual is not None and usual[0] == "mse_loss" and loss.aim.kind != "values":
            return None  # soft labels, of which outputs are the logits
        is_known = own.lead is not None if usual is not None else own.skill is not None and own.is_of_loss
        return cls(seen, output, usual) if is_known else None

    def beyond(self, found: Score) -> float:
        """What is right, or saved of the loss, beyond the constant-prediction baseline, of all that could be."""
        if not self.has_usual:
            return found.skill if found.skill is not None else -math.inf
        least = self.least
        return (found.share - least) / max(1e-6, 1 - least)

    @property
    def least(self) -> float:
        """Right answers of the constant-prediction baseline."""
        own = self._seen.seen.score
        return own.share - (own.lead or 0.0) if self.has_usual else 0.0

    def said(self, part: str, found: Score, best: Score, by: str) -> CounterpartFacts:
        """The part, with what both get."""
        own, swapped, plain = (
            one.share if self.has_usual else max(0.0, one.skill or 0.0) for one in (self._seen.seen.score, found, best)
        )
        settings = unusual_settings(self._seen.patient)
        return CounterpartFacts(part, own, swapped, plain, self.least, by, settings, is_of_loss=not self.has_usual)

    def plain_both(self) -> Score | None:
        return self._trained("a plain network with the usual loss", self._plain, self._loss)

    def plain_network(self) -> Score | None:
        def make() -> Patient:
            made = self._plain()
            made.model = shaped(made.model, self._output, self._target)
            return made

        return self._trained("a plain network with this loss", make, self._seen.loss_fn)

    def with_usual_loss(self) -> Score | None:
        found = [self._trained(f"{self.loss_name} in place of this loss", self._seen.patient.copy, self._loss)]
        found += [self._trained(f"{self.loss_name} and Adam", lambda: self._adam(_RATE), self._loss)]
        return _best(found)

    def with_adam(self) -> Score | None:
        return _best(
            [
                self._trained(f"Adam at {rate:g}", lambda rate=rate: self._adam(rate), self._seen.loss_fn)
                for rate in _RATES
            ]
        )

    def _adam(self, rate: float) -> Patient:
        patient = self._seen.patient.copy()
        patient.optimizer = torch.optim.Adam(patient.parameters, rate)
        return patient

    def _plain(self) -> Patient:
        with kept_generators():
            seed_generators(0)
            model = PlainNetwork(self._seen.data, self._output).to(self._output.device)
        return Patient(model, torch.optim.Adam(model.parameters(), _RATE), accumulation=self._seen.patient.accumulation)

    def _trained(self, name: str, make: Callable[[], Patient], loss_fn: Loss) -> Score | None:
        seen = self._seen
        if not seen.budget.has_room(name):
            return None
        try:
            with seen.budget.training():
                patient = make()
                train(patient, seen.data, loss_fn, seed=seen.seed, measures=False)
                return score(patient.model, seen.judged, self._loss)
        except KeyboardInterrupt:
            seen.budget.interrupt()
        except (FrostlineError, *FOREIGN):
            pass
        return None


def _best(found: list[Score | None]) -> Score | None:
    return max((one for one in found if one is not None), key=lambda one: one.share, default=None)


def unusual_settings(patient: Patient) -> str:
    """Settings of an optimizer that are not its own default, but for rates and decay, in words; "" without one."""
    optimizer: Optimizer = patient.optimizer
    usual = {name: one.default for name, one in inspect.signature(type(optimizer).__init__).parameters.items()}
    found = [
        f"{name}={group[name]} (usually {usual[name]})" for group in optimizer.param_groups for name in group
        if name in usual and name not in {"lr", "weight_decay", "params", "foreach", "fused", "capturable"}
        and group[name] != usual[name]
    ]  # fmt: skip
    rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
    if rates and min(rates) < max(rates):
        found.append(f"rates from {min(rates):g} to {max(rates):g}")
    return ", ".join(dict.fromkeys(found))
