"""The result of a checkup: findings of the cause with their proof, all others with the result of their trial."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.experiments.verdict import counts
from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules.judge import all_of, diagnosis_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import Diagnosis, Finding
    from frostline.diagnosis.experiments.budget import Budget
    from frostline.diagnosis.experiments.examination import Suspicion, Trial
    from frostline.diagnosis.experiments.verdict import Proof
    from frostline.diagnosis.rules.contract import About

# What needs no trial.
_CERTAIN = frozenset(
    {"FL405", "FL406", "FL407", "FL408", "FL411", "FL412", "FL502", "FL503", "FL504", "FL506", "FL507", "FL508",
     "FL509", "FL510", "FL511", "FL512", "FL513", "FL514", "FL515", "FL516", "FL517", "FL518", "FL519", "FL520",
     "FL604", "FL605",
     "FL606", "FL607"}
)  # fmt: skip
_FIRST = "Fixing this helped in the first trial, which was not repeated"
_ONCE = "Fixing this helped in the first trial, but not reliably in repeated trials."
_OF_A_LAYER = frozenset({"FL301", "FL302"})  # their advice draws weights anew, of one layer only
_OF_RATES = frozenset({"FL401", "FL402"})
_ABOUT = {rule.ABOUT.code: rule.ABOUT for rule in RULES}


def reported(
    diagnosis: Diagnosis, proof: Proof | None, cause: str | None, tried: Sequence[Trial] = (),
    start: Diagnosis | None = None, *, is_rate_known: bool = True, budget: Budget | None = None,
) -> Diagnosis:  # fmt: skip
    """Findings of the cause become issues, with the proof; what no trial confirmed is a tip, and a tip has passed.

    Args:
        diagnosis: What the rules say.
        proof: The treatment that was proven, or None.
        cause: The family of the cause, or None.
        tried: All first trials.
        start: What the rules said before the first step.
        is_rate_known: False if the optimizer is one of ours: nothing is said about its steps.
        budget: What the trials had; None if it had no limit.
    """
    ended = budget.ended if budget is not None and budget.left_out else ""
    if budget is not None and budget.is_cut:
        diagnosis = diagnosis_of([_of_part(finding, budget) for finding in all_of(diagnosis)], diagnosis.cause)
    if not is_rate_known:
        diagnosis = diagnosis_of([_of_ours(finding) for finding in all_of(diagnosis)], diagnosis.cause)
    parts = proof.trial.suspicion.parts if proof is not None else ()
    code = parts[0].remedy.code if parts else None
    own = (rule.ABOUT for rule in RULES if rule.ABOUT.family == cause and code in (None, rule.ABOUT.code))
    about = next(own, None)
    findings: list[Finding] = []
    for finding in diagnosis.findings:
        is_known = proof is not None or finding.outcome == "issue"
        is_cause = is_known and finding.family == cause and code in (None, finding.code)
        own = next((one for one in parts if one.family == finding.family and _speaks(one, finding)), None)
        is_reported = is_cause or own is not None
        findings.append(_of_cause(finding, proof, own) if is_reported else _beside(finding, about, tried, ended))
    is_reported = any(finding.family == cause and finding.outcome == "issue" for finding in findings)
    if proof is not None and about is not None and not is_reported:
        name = proof.trial.suspicion.name
        known = [*(start.findings if start is not None else ()), *diagnosis.passed]
        same = (one for one in known if one.code == about.code and one.outcome == "passed")
        seen = next((f"{one.why.removesuffix('.')}; " for one in same), "")
        findings.append(
            _advised(about.issue(f"{seen}with {name}, {proof}", proof.gain, proof.min_gain), proof.trial.suspicion)
        )
    passed = [one for one in diagnosis.passed if about is None or is_reported or one.code != about.code]
    open_ = _left_open(tried, budget) if budget is not None and proof is None else []
    return diagnosis_of([*findings, *passed, *diagnosis.not_judged, *open_], cause)


def _of_part(finding: Finding, budget: Budget) -> Finding:
    """A finding about a training that was too short, where that was for want of time."""
    if finding.code != "FL402" or finding.outcome != "not judged":
        return finding
    why = (
        f"copies were trained on {budget.most} of {budget.available} batches, for want of time: in the first epochs a "
        f"larger rate is ahead in healthy networks as well. checkup(..., budget={budget.enough_s}) trains on all."
    )
    return replace(finding, why=why)


def _of_ours(finding: Finding) -> Finding:
    if finding.code not in _OF_RATES:
        return finding
    why = "no optimizer was given; pass the one that trains the model."
    return replace(finding, outcome="not judged", measured=None, limit=None, why=why, advice="nothing.")


def _of_cause(finding: Finding, proof: Proof | None, own: Suspicion | None = None) -> Finding:
    if proof is None:
        return replace(finding, outcome="issue")
    why = f"{finding.why} With a fix ({proof.trial.suspicion.name}), {proof}"
    return _advised(replace(finding, outcome="issue", why=why), own or proof.trial.suspicion)


def _advised(finding: Finding, own: Suspicion) -> Finding:
    """With the advice of the trial, where it is more specific than that of the rule."""
    if finding.layer and finding.code in _OF_A_LAYER:
        return finding  # what others have learnt stays
    return replace(finding, advice=own.remedy.advice or finding.advice)


def _left_open(tried: Sequence[Trial], budget: Budget) -> list[Finding]:
    """The rules whose experiments were left out, or not repeated, with what would judge them."""
    left: dict[str, list[str]] = {}
    names = set(budget.left_out)
    for trial in tried:
        remedy, name = trial.suspicion.remedy, trial.suspicion.name
        known = (rule.ABOUT.code for rule in RULES if rule.ABOUT.family == trial.suspicion.family)
        code = remedy.code or next(known, None)
        if code is not None and (trial.is_open or f"{name}, again" in names):
            left.setdefault(code, []).append(name if trial.is_open else f"{name}, again")
    count = sum(map(len, left.values()))
    enough = 10 * math.ceil((budget.spent_s + (2 * count + 2) * budget.trial_s) / 10)
    return [
        _ABOUT[code].not_judged(
            f"{budget.ended} before {'this was' if len(several) == 1 else 'these were'} tried: {'; '.join(several)}. "
            f"checkup(..., budget={enough}) tries {'it' if len(several) == 1 else 'them'}."
        )
        for code, several in left.items()
    ]


def _beside(finding: Finding, cause: About | None, tried: Sequence[Trial], ended: str) -> Finding:
    """What is not the cause: a consequence of it, something that helps less, or nothing."""
    if finding.code in _CERTAIN or (finding.code == "FL404" and cause is None):
        return finding
    if finding.code == "FL404":
        return replace(finding, outcome="passed", why=f"{finding.why} The cause explains it.", advice="nothing.")
    every = [trial for trial in tried if trial.suspicion.family == finding.family and _speaks_for(trial, finding)]
    own = [trial for trial in every if not trial.is_open]
    if any(map(counts, own)):
        result = "Fixing this helped as well." if cause else f"{_FIRST}; {ended}." if ended else _ONCE
    elif len(own) < len(every):
        result = f"{'Not all fixes were' if own else 'No fix was'} tried: {ended}."
    else:
        result = "Fixing this did not help in a trial." if own else "No trial was made for it."
    if (
        finding.outcome == "tip"
        and own
        and len(own) == len(every)
        and not any(map(counts, own))
        and not _names_rows(finding)
    ):
        return replace(finding, outcome="passed", why=f"{finding.why} {result}", advice="nothing.")
    if finding.outcome == "tip" and not own:
        return finding
    if finding.code == "FL401" and cause is None and len(own) < len(every) and not any(map(counts, own)):
        return replace(finding, why=f"{finding.why} {result}")  # healthy networks do not blow up
    advice = f"fix the cause first ({cause.title}), then look again." if cause else finding.advice
    return replace(finding, outcome="tip", why=f"{finding.why} {result}", advice=advice)


def _speaks_for(trial: Trial, finding: Finding) -> bool:
    return trial.suspicion.partner is None and _speaks(trial.suspicion, finding)


def _speaks(suspicion: Suspicion, finding: Finding) -> bool:
    return suspicion.remedy.code in (None, finding.code)


def _names_rows(finding: Finding) -> bool:
    """Whether it says which rows to look at, besides what its rule advises: worth knowing, whatever a trial says."""
    return finding.code == "FL103" and finding.advice != _ABOUT["FL103"].advice
