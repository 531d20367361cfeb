"""The certificate of a port: what went where, what was proven, what was only tested, what nobody knows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 2
RULES = 1  # of layouts; a change of a rule that writes other values than before raises it
NUMBERS = "numbers in names"  # the reason for pairs that nothing else told
STATISTICS = "statistics"  # the setting of checks by running statistics
_SHOWN = 3  # layers in one line


@dataclass(frozen=True)
class Mapped:
    """One tensor of the module and what it was made of.

    Attributes:
        target: Its name in the module's state dict.
        sources: Names of the file's tensors, in order; empty for a constant.
        layout: The transforms, in words.
        unit: The layer of the file.
        layer: The layer of the module.
        reason: Why these two belong together.
        margin: By how much: 1 if nothing else was possible.
        sha256: Digest of the bytes that the module holds now.
        is_computed: Whether it was computed, as of a weight norm: no inverse gives its sources back.
    """

    target: str
    sources: tuple[str, ...]
    layout: str
    unit: str
    layer: str
    reason: str
    margin: float
    sha256: str
    is_computed: bool = False


@dataclass(frozen=True)
class Check:
    """One setting that the file states, beside that of the module.

    Attributes:
        layer: The layer of the module.
        setting: What was compared (`eps`, `momentum`, `padding`, ...).
        status: `agrees`, `set` (made equal on request), `differs`, or `unknown`.
        text: Both values, and what follows.
        attribute: Of a value that was set: its name in the layer.
        value: Of a value that was set: what it is now.
    """

    layer: str
    setting: str
    status: str
    text: str
    attribute: str = ""
    value: Any = None


@dataclass(frozen=True)
class Run:
    """Outputs of the module beside those of the source network, on the same inputs.

    Attributes:
        kind: Where the source's outputs come from: `golden outputs`, `interpretation of the file's graph`, ...
        samples: How many inputs were run.
        error: Largest difference, relative to the largest output.
        tolerance: What was allowed.
        alternatives: How many assignments were run; 1 if only one was possible.
        layers: The layers of the file whose outputs these are; empty for those of the network.
        silent: Layers that these outputs do not show: a change of their weights by a tenth would be allowed.
        extra: How many outputs the module gave beyond those that were compared.
    """

    kind: str
    samples: int
    error: float
    tolerance: float
    alternatives: int = 1
    layers: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    extra: int = 0


@dataclass(frozen=True)
class Certificate:
    """What `frostline.port` did, and how far it is proven.

    Attributes:
        file: Path of the file.
        sha256: Digest of the file; of a checkpoint, of its index.
        format: Of the file, in words.
        framework: Whose layouts it follows.
        model: Class of the module.
        mapping: One entry for each tensor of the module that was written.
        kept: Layers of the module that kept their values: a partial port.
        unused: Layers of the file that went nowhere: a partial port.
        dropped: Tensors of the file that are no part of the network, and their class.
        checks: Settings of layers beside those of the file.
        runs: Outputs that were compared.
        notes: Wrappers that were looked into, choices that were made.
        proven: What holds whatever the inputs are.
        tested: What was tried on samples only.
        unknown: What the file does not tell.
        to: How the command built the module; empty in Python.
        files: Digests of all other files that were read (shards, external data), by their path from the file's folder.
        weights: Digests of the files that the command saved, by their names beside the certificate.
        key: Which entry of the file was asked for; empty if none was.
        is_adapted: Whether settings were to be made equal.
        rules: The version of the layout rules.
    """

    file: str
    sha256: str
    format: str
    framework: str
    model: str
    mapping: tuple[Mapped, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]
    dropped: dict[str, str]
    checks: tuple[Check, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]
    proven: str
    tested: str
    unknown: str
    to: str = ""
    files: dict[str, str] = field(default_factory=dict[str, str])
    weights: dict[str, str] = field(default_factory=dict[str, str])
    key: str = ""
    is_adapted: bool = False
    rules: int = RULES

    def as_dict(self) -> dict[str, Any]:
        """The certificate as `frostline port --check` reads it: plain values, for JSON, with a digest of them all."""
        values = {"schema": SCHEMA, **asdict(self)}
        return {**values, "digest": _digest(values)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certificate:
        """A certificate from what `as_dict` gave.

        Raises:
            ValueError: If it was written in a form that this version does not know, or edited since.
            KeyError, TypeError: If it is no certificate.
        """
        values = dict(values)
        if values.get("schema") != SCHEMA:
            raise ValueError("a certificate of another version")
        if values.pop("digest") != _digest(values):
            raise ValueError("it was edited after it was written: its content does not have its digest")
        values.pop("schema")
        lists = {"mapping": Mapped, "checks": Check, "runs": Run}
        made = {name: tuple(kind(**_plain(one)) for one in values.pop(name)) for name, kind in lists.items()}
        if not all(isinstance(values[name], dict) for name in ("dropped", "files", "weights")):
            raise TypeError("a certificate without its tables of names")
        return cls(**made, **_plain(values))

    def units(self) -> dict[str, str]:
        """The layer of the module that each layer of the file became: hints that repeat this port."""
        return {one.unit: one.layer for one in self.mapping}

    def settings(self) -> dict[str, Any]:
        """Values of the module that were set, by layer and attribute (`norm.eps`): weights do not hold them."""
        return {f"{one.layer.partition(':')[0]}.{one.attribute}": one.value for one in self.checks if one.attribute}

    def text(self) -> str:
        """A summary for people."""
        lines = [
            f"{self.file} ({self.format}{_beside(self.files)}) -> {self.model}: {len(self.mapping)} tensors of "
            f"{len(self.units())} layers.",
            *(f"  {name}" for name in self.notes),
            f"Proven:  {self.proven}",
            f"Tested:  {self.tested}",
            f"Unknown: {self.unknown}",
        ]
        if self.kept:
            lines.append(f"Kept:    {', '.join(self.kept)} (not in the file)")
        if self.unused:
            lines.append(f"Unused:  {', '.join(self.unused)} (not in the module)")
        if self.dropped:
            kinds = sorted(set(self.dropped.values()))
            lines.append(f"Dropped: {len(self.dropped)} tensors ({', '.join(kinds)})")
        lines += _of_checks(self.checks)
        if self.settings():
            lines.append("Weights do not hold what was set: set it again wherever they are loaded.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def _digest(values: dict[str, Any]) -> str:
    """Of a certificate without it. It shows that values were changed, not by whom: it is no signature."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _beside(files: dict[str, str]) -> str:
    return f", with {len(files)} other file{'s' if len(files) > 1 else ''}" if files else ""


def sentences(
    mapping: tuple[Mapped, ...], runs: tuple[Run, ...], checks: tuple[Check, ...], *, converted: int = 0
) -> tuple[str, str, str]:  # fmt: skip
    """What is proven, what is only tested, and what is unknown; one sentence each.

    Args:
        mapping: Every tensor that was written.
        runs: Outputs that were compared.
        checks: Settings that were compared.
        converted: How many tensors the module holds in another dtype than the file.
    """
    constants, num_computed = sum(not one.sources for one in mapping), sum(one.is_computed for one in mapping)
    proven = (
        f"each of {len(mapping)} tensors was written once, and the inverse of its layout gives back the file's bytes"
        + (f"; but {num_computed} were computed from the file's, which nothing gives back" if num_computed else "")
        + (f"; {constants} are constants that the file leaves out" if constants else "")
        + (f"; {converted} were then converted to the module's dtype" if converted else "")
        + "."
    )
    tried = [
        f"the outputs{_of_layers(run)} agree with {run.kind} on {run.samples} samples "
        f"(relative difference {run.error:.1e}, allowed {run.tolerance:.0e})"
        + (f", in which {run.alternatives} assignments were tried" if run.alternatives > 1 else "")
        + (f", but hardly depend on {_listed([*run.silent])}" if run.silent else "")
        + (f"; {run.extra} further outputs of the module were not compared" if run.extra else "")
        for run in runs
    ]
    statuses = [check.status for check in checks if check.setting == STATISTICS]
    if statuses:
        tried.append(
            f"values on real samples are distributed as the file says in {statuses.count('agrees')} of {len(statuses)} "
            f"BatchNorm layers, and otherwise in {statuses.count('differs')}"
        )
    if not tried:
        told = sorted({one.reason for one in mapping if one.margin < 1})
        tried = ["nothing was run" + (f"; layers were told apart by {', '.join(told)}" if told else "")]
        pairs = dict.fromkeys(f"{one.unit} to {one.layer}" for one in mapping if one.reason == NUMBERS)
        if pairs:
            tried.append(f"{len(pairs)} by numbers alone, which networks count from either end: {_listed([*pairs])}")
    tested = f"{'; '.join(tried)}."
    behind = [f"what the module computes behind {_listed(list(run.layers))}" for run in runs if run.layers]
    unknown = behind if runs else ["whether the module computes what the source network does (pass golden outputs)"]
    if not runs:
        is_compared = any(check.setting != STATISTICS for check in checks)
        hidden = "" if is_compared else "epsilon, padding, activations, "
        unknown.append(f"settings that weights do not show: {hidden}the order of a flatten")
    unknown += [f"{setting} of {names}: {text}" for (_, setting, text), names in _grouped(checks, "unknown")]
    unknown += [f"whether {_listed([*run.silent])} compute what their source does" for run in runs if run.silent]
    if not runs:
        unknown += [
            f"what follows from another {setting} of {names}" for setting, names in _by_setting(checks, "differs")
        ]
    return (
        proven,
        tested,
        f"{'; '.join(unknown)}." if unknown else "inputs of other sizes or ranges than those that were run.",
    )


def _of_layers(run: Run) -> str:
    return f" of {_listed(list(run.layers))}, the last layers that were ported," if run.layers else ""


def _of_checks(checks: tuple[Check, ...]) -> list[str]:
    """One line for each setting that is not as in the file; those that are unknown stand in the sentence of these."""
    return [
        f"{status.capitalize() + ':':9}{setting} of {names}: {text}"
        for (status, setting, text), names in _grouped(checks, "differs", "set")
    ]


def _grouped(checks: tuple[Check, ...], *statuses: str) -> list[tuple[tuple[str, str, str], str]]:
    """Status, setting and text of checks, with the layers that share them."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for check in checks:
        if check.status in statuses:
            groups.setdefault((check.status, check.setting, check.text), []).append(check.layer)
    return [(group, _listed(names)) for group, names in groups.items()]


def _by_setting(checks: tuple[Check, ...], status: str) -> list[tuple[str, str]]:
    groups: dict[str, list[str]] = {}
    for check in checks:
        if check.status == status:
            groups.setdefault(check.setting, []).append(check.layer)
    return [(setting, _listed(names)) for setting, names in groups.items()]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(map(repr, names[:_SHOWN]))}{more}"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Lists of JSON as the tuples of records."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
