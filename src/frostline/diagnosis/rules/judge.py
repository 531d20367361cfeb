"""All rules on one body of evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.records import Diagnosis
from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules.reading import loss_levels

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

# Whose tips name a place in the code of a network that learns nothing, where FL404 says no more than that.
_NAMED = frozenset({
    "FL405", "FL503", "FL506", "FL509", "FL510", "FL513", "FL514", "FL518", "FL519", "FL520",
})  # fmt: skip
# What is seen in layers, and harms only where the network learns less for it.
_SYMPTOMS = frozenset({"FL101", "FL201"})
_LEARNT = 0.7  # of the first loss is left: neither dead units nor lost gradients stand in the way
SEVERITIES = {rule.ABOUT.code: rule.ABOUT.severity for rule in RULES}


def judge(evidence: Evidence) -> Diagnosis:
    """The findings of all rules; causes are candidates until one is tried. Without measurements nothing is judged."""
    if not _has_seen_anything(evidence):
        why = "; ".join(evidence.unseen) or "no step was measured."
        return diagnosis_of([rule.ABOUT.not_judged(why) for rule in RULES], cause=None)
    types = {layer.name: layer.type for layer in evidence.layers}
    findings = [
        replace(finding, layer_type=types.get(finding.layer or "", "")) for rule in RULES
        for finding in rule.check(evidence)
    ]  # fmt: skip
    failed = dict(evidence.failed_probes)
    findings = [_unprobed(one, failed[one.code]) if one.code in failed else one for one in findings]
    if not _has_seen_training(evidence):
        findings = [_unproven(finding, evidence) for finding in findings]
    return diagnosis_of(findings, cause=None)


def judge_loop(evidence: Evidence) -> Diagnosis:
    """As `judge`, of a loop in which nothing is tried: what its layers show is no issue where the loss has fallen.

    Nobody compares with a treated copy here. Experts that see few rows and the queries of small transformers look as
    dead units and lost gradients do.
    """
    levels = loss_levels(evidence)
    diagnosis = judge(evidence)
    if levels is None or not 0 <= levels[2] <= _LEARNT * levels[0]:
        return diagnosis
    beside = f" The loss fell from {levels[0]:.3g} to {levels[2]:.3g} all the same."

    def milder(finding: Finding) -> Finding:
        is_symptom = finding.code in _SYMPTOMS and finding.outcome == "issue"
        return replace(finding, outcome="tip", why=finding.why + beside) if is_symptom else finding

    return diagnosis_of([milder(one) for one in all_of(diagnosis)], diagnosis.cause)


def diagnosis_of(findings: list[Finding], cause: str | None) -> Diagnosis:
    """Findings in order: issues before tips, the cause first, then by severity."""
    spoken = [finding for finding in findings if finding.outcome in {"issue", "tip"}]
    named = min((SEVERITIES[f.code] for f in spoken if f.outcome == "tip" and f.code in _NAMED), default=None)

    def severity(finding: Finding) -> float:
        """That nothing is learnt comes right behind the mildest tip that says of what it may come."""
        own = SEVERITIES[finding.code]
        is_general = finding.code == "FL404" and finding.outcome == "tip" and named is not None
        return min(own, named - 0.5) if is_general and named is not None else own

    spoken.sort(key=lambda f: (f.outcome != "issue", f.family != cause, -severity(f)))
    families = [cause] if cause else []
    families += [finding.family for finding in spoken if finding.outcome == "issue"]
    quiet = tuple(finding for finding in findings if finding.outcome in {"passed", "not applicable"})
    silent = tuple(finding for finding in findings if finding.outcome == "not judged")
    return Diagnosis(tuple(spoken), cause, tuple(dict.fromkeys(families)), quiet, silent)


def all_of(diagnosis: Diagnosis) -> list[Finding]:
    """What every rule said, whatever it was."""
    return [*diagnosis.findings, *diagnosis.passed, *diagnosis.not_judged]


def _unprobed(finding: Finding, why: str) -> Finding:
    """Not judged, unless something was found all the same."""
    if finding.outcome in {"issue", "tip"}:
        return finding
    return replace(finding, outcome="not judged", measured=None, limit=None, why=f"{why}.")


def _unproven(finding: Finding, evidence: Evidence) -> Finding:
    """What passed in a network that was not seen to train has proven nothing."""
    if finding.outcome != "passed":
        return finding
    why = "; ".join(evidence.unseen) or "no gradients were measured."
    return replace(finding, outcome="not judged", measured=None, limit=None, why=why)


def _has_seen_training(evidence: Evidence) -> bool:
    seen = (sample.gradient_norm for record in evidence.records for sample in record.layers)
    return bool(evidence.gradient_norms) or any(norm is not None for norm in seen)


def _has_seen_anything(evidence: Evidence) -> bool:
    seen = (evidence.records, evidence.losses, evidence.gradient_norms, evidence.loss, evidence.norms)
    return any(seen) or evidence.has_accumulated is not None
