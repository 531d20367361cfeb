"""The certificate, the result of a port: the assignment, what is proven, what was only tested, what is unknown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from frostline.porting.reasons import NUMBERS_IN_NAMES, SAME_NAME

SCHEMA = 2
RULES = 1  # version of the layout rules; increased when a rule changes the values that it writes
STATISTICS = "statistics"  # `Check.setting` of comparisons with running statistics
_SHOWN = 3  # names listed in one line


@dataclass(frozen=True)
class Mapped:
    """One tensor of the module, and the tensors of the file that it was made of.

    Attributes:
        target: Its name in the module's state dict.
        sources: Names of the file's tensors, in order; empty for a constant.
        layout: The names of the layouts that were applied.
        unit: The layer of the file.
        layer: The layer of the module.
        reason: The evidence for this pair of layers.
        margin: How clear the evidence is: 1 if no other assignment was possible.
        sha256: Digest of the tensor as the module holds it after the port.
        is_computed: Whether it was computed from its sources, such as under a weight norm: the computation has no
            inverse.
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
    """One setting of the file, compared with that of the module.

    Attributes:
        layer: The layer of the module.
        setting: Its name (`eps`, `momentum`, `padding`, ...).
        status: `agrees`, `set` (made equal on request), `differs`, or `unknown`.
        text: Both values, and a remedy if there is one.
        attribute: The attribute of the layer, if the setting was set.
        value: The new value of the attribute, if the setting was set.
    """

    layer: str
    setting: str
    status: str
    text: str
    attribute: str = ""
    value: Any = None


@dataclass(frozen=True)
class Run:
    """A comparison of the outputs of the module with those of the source network, on the same inputs.

    Attributes:
        kind: The origin of the source's outputs: `golden outputs`, `interpretation of the file's graph`, ...
        samples: How many inputs were run.
        error: Largest difference, relative to the largest output.
        tolerance: Largest relative difference that was allowed.
        alternatives: How many assignments were run; 1 if only one was possible.
        layers: The layers of the file whose outputs were compared; empty for the outputs of the network.
        silent: Layers that hardly change these outputs: a change of their weights by 10 % stays within the tolerance.
        extra: Number of further outputs of the module that were not compared.
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
    """The record of one call of `frostline.port`, and how far its result is proven.

    Attributes:
        file: Path of the file.
        sha256: Digest of the file; of a checkpoint, of its index.
        format: Name of the file format.
        framework: The framework whose layouts the tensors have.
        model: Class name of the module.
        mapping: One entry for each tensor of the module that was written.
        kept: Layers of the module that keep their values; only in a partial port.
        unused: Layers of the file that were assigned to no layer; only in a partial port.
        dropped: Tensors of the file that are not part of the network, and why (`optimizer slot`, `counter`).
        checks: Comparisons of settings.
        runs: Comparisons of outputs.
        notes: Wrappers that were removed from names, and choices that were made.
        proven: What holds for all inputs.
        tested: What was only tested on samples.
        unknown: What neither the file nor a test shows.
        to: The argument `--to` of the command; empty if the port was made in Python.
        files: Digests of all other files that were read (shards, external data), by path relative to the file's folder.
        weights: Digests of the files that the command saved, by file name.
        key: The argument `key`; empty if none was passed.
        is_adapted: The argument `adapt`.
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
        """The certificate as plain values for JSON, with a digest of them all; `frostline port --check` reads it."""
        values = {"schema": SCHEMA, **asdict(self)}
        return {**values, "digest": _digest(values)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certificate:
        """The certificate from the values that `as_dict` returned.

        Raises:
            ValueError: If the schema is of another version, or the values were edited.
            KeyError, TypeError: If the values are not those of a certificate.
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
        """The layer of the module for each layer of the file; as `hints` they repeat this port."""
        return {one.unit: one.layer for one in self.mapping}

    def settings(self) -> dict[str, Any]:
        """Settings that the port changed, by layer and attribute (`norm.eps`): files of weights do not store them."""
        return {f"{one.layer.partition(':')[0]}.{one.attribute}": one.value for one in self.checks if one.attribute}

    def text(self) -> str:
        """The certificate as text for the terminal."""
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
            lines.append("A file of weights does not store these settings: set them wherever the weights are loaded.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__  # the fields hold every tensor of the file


def _digest(values: dict[str, Any]) -> str:
    """The digest of a certificate's values. It detects edits; it is not a signature and does not show who made them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _beside(files: dict[str, str]) -> str:
    return f", with {len(files)} other file{'s' if len(files) > 1 else ''}" if files else ""


def sentences(
    mapping: tuple[Mapped, ...], runs: tuple[Run, ...], checks: tuple[Check, ...], *, converted: int = 0
) -> tuple[str, str, str]:  # fmt: skip
    """What is proven, what is only tested, and what is unknown; one sentence each.

    Args:
        mapping: Every tensor that was written.
        runs: Comparisons of outputs.
        checks: Comparisons of settings.
        converted: Number of tensors that were converted to another dtype.
    """
    constants, num_computed = sum(not one.sources for one in mapping), sum(one.is_computed for one in mapping)
    proven = (
        f"each of {len(mapping)} tensors was written once, and the inverse of its layout reproduces the file's bytes"
        + (f"; but {num_computed} were computed from several tensors, which has no inverse" if num_computed else "")
        + (f"; {constants} are constants that the file does not store" if constants else "")
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
            f"values on real samples are distributed as the file states in {statuses.count('agrees')} of "
            f"{len(statuses)} BatchNorm layers, and otherwise in {statuses.count('differs')}"
        )
    if not tried:
        reasons = sorted({one.reason for one in mapping if one.margin < 1 or one.reason == SAME_NAME})
        tried = ["nothing was run" + (f"; layers were distinguished by {', '.join(reasons)}" if reasons else "")]
        pairs = dict.fromkeys(f"{one.unit} to {one.layer}" for one in mapping if one.reason == NUMBERS_IN_NAMES)
        if pairs:
            tried.append(
                f"{len(pairs)} by numbers alone, which may count from either end of a network: {_listed([*pairs])}"
            )
    tested = f"{'; '.join(tried)}."
    after = [f"what the module computes after {_listed(list(run.layers))}" for run in runs if run.layers]
    unknown = after if runs else ["whether the module computes what the source network does (pass golden outputs)"]
    if not runs:
        is_compared = any(check.setting != STATISTICS for check in checks)
        hidden = "" if is_compared else "epsilon, padding, activations, "
        unknown.append(f"settings that a file of weights does not state: {hidden}the order of a flatten")
    unknown += [f"{setting} of {names}: {text}" for (_, setting, text), names in _grouped(checks, "unknown")]
    unknown += [
        f"whether {_listed([*run.silent])} compute the same as in the source network" for run in runs if run.silent
    ]
    if not runs:
        unknown += [f"the effect of another {setting} of {names}" for setting, names in _by_setting(checks, "differs")]
    return (
        proven,
        tested,
        f"{'; '.join(unknown)}." if unknown else "inputs of other sizes or ranges than those that were run.",
    )


def _of_layers(run: Run) -> str:
    return f" of {_listed(list(run.layers))}, the last layers that were ported," if run.layers else ""


def _of_checks(checks: tuple[Check, ...]) -> list[str]:
    """One line for each setting that differs or was set; unknown settings are in the sentence `unknown`."""
    return [
        f"{status.capitalize() + ':':9}{setting} of {names}: {text}"
        for (status, setting, text), names in _grouped(checks, "differs", "set")
    ]


def _grouped(checks: tuple[Check, ...], *statuses: str) -> list[tuple[tuple[str, str, str], str]]:
    """Checks grouped by status, setting and text, with the names of their layers."""
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
    """The values with lists, as JSON has them, replaced by tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
