"""Tables of the exam of published bugs: what `heal` brings, what other tools' rules say, networks of usual size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import frostline

from ..health.scoring import Share
from .case import Published
from .healthy import WELL
from .real_networks import HEALTHY, KINDS, build
from .repairs import Repair, plain_score, repair
from .rivals import RIVALS, Said, ask_rivals

Row = Sequence[str]


def write(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put a table between the marks `<!-- published: NAME -->` and `<!-- end -->` of a page."""
    begin, end = f"<!-- published: {name} -->\n", "<!-- end -->"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n\n{end}{after}")


def of_repairs(cases: Sequence[Published]) -> Iterator[Row]:
    """A row for each case that is not in the loop, and shares of those with and without a treatment in place."""
    yield ("bug", "treatment in place", "score, sick", "healed", "fixed twin", "healed of it", "kept", "line named",
           "twin, healed", "kept there")  # fmt: skip
    yield ["---"] * 10
    found: list[tuple[Published, Repair]] = []
    for case in cases:
        if case.build(True).loop is not None:
            continue
        one = repair(case)
        found.append((case, one))
        gap = "no gap" if one.closed is None else f"{one.closed:.0%}{' (yes)' if one.is_healed else ' (no)'}"
        yield (case.name, case.treatment or "none", f"{one.sick:.2f}", f"{one.healed:.2f}", f"{one.twin:.2f}", gap,
               "; ".join(one.kept) or "nothing", "yes" if one.names_cause else "no", f"{one.twin_healed:.2f}",
               "; ".join(one.twin_kept) or "nothing")  # fmt: skip
    treatable = [one for case, one in found if case.treatment]
    others = [one for case, one in found if not case.treatment]
    yield ("**with a treatment: healed**", str(Share(sum(one.is_healed for one in treatable), len(treatable))),
           *[""] * 8)  # fmt: skip
    yield ("**without one: model left as it is**", str(Share(sum(not one.kept for one in others), len(others))),
           *[""] * 8)  # fmt: skip
    yield ("**without one: the line is named**", str(Share(sum(one.names_cause for one in others), len(others))),
           *[""] * 8)  # fmt: skip
    yield ("**twins that are worse for it**", str(Share(sum(one.is_harmed for _, one in found), len(found))),
           *[""] * 8)  # fmt: skip


def of_rivals(cases: Sequence[Published]) -> Iterator[Row]:
    """A row for each rival."""
    yield "rules", "something is said", "right cause first", "something is said of the twin"
    yield ["---"] * 4
    asked = [case for case in cases if case.build(True).loop is None]
    answers = {case.name: ask_rivals(case) for case in asked}
    for rival in RIVALS:
        pairs = [(case, *answers[case.name][rival]) for case in asked]
        shares = [
            Share(sum(sick.is_any for _, sick, _ in pairs), len(pairs)),
            Share(sum(_is_right(case, sick) for case, sick, _ in pairs), len(pairs)),
            Share(sum(twin.is_any for *_, twin in pairs), len(pairs)),
        ]
        yield rival, *(str(share) for share in shares)


def _is_right(case: Published, said: Said) -> bool:
    return said.families[:1] != () and said.families[0] in case.right


def of_networks(kinds: Sequence[str]) -> Iterator[Row]:
    """A row for each fault, and for each healthy network."""
    yield "network", "fault", "findings", "right cause first", "issue"
    yield ["---"] * 5
    for kind in kinds:
        for what in (*KINDS[kind].faults, *HEALTHY):
            training = build(kind, what)
            given = training.model, training.batches, training.loss_fn, training.optimizer
            found = frostline.checkup(*given, progress=False)
            names = {found.cause, *(part for one in found.findings[:1] for part in (one.code, one.family))}
            right = KINDS[kind].faults.get(what)
            said = ", ".join(f"{one.code} {one.outcome}" for one in found.findings[:4]) or "none"
            is_issue = any(one.outcome == "issue" for one in found.findings)
            mark = "" if right is None else "yes" if names & right else "no"
            yield kind, what if right else f"healthy, {what}", said, mark, "yes" if is_issue else "no"


def of_healthy(names: Sequence[str]) -> Iterator[Row]:
    """A row for each healthy network: what its plain training reaches, and what is said of it."""
    yield "network", "score of its plain training", "findings", "issue"
    yield ["---"] * 4
    count = 0
    for name in names:
        torch.manual_seed(1)
        reached = plain_score(WELL[name].build())
        torch.manual_seed(1)
        training = WELL[name].build()
        found = [frostline.checkup(training.model, training.batches, training.loss_fn, training.optimizer,
                                   progress=False)]  # fmt: skip
        if training.loop is not None:
            with frostline.Monitor(training.model, training.optimizer) as monitor:
                training.loop(training, monitor)
            found.append(monitor.diagnosis)
        said = [f"{one.code} {one.outcome}" for each in found for one in each.findings]
        is_issue = any(mark.endswith("issue") for mark in said)
        count += is_issue
        yield name, f"{reached:.2f}", ", ".join(said) or "none", "yes" if is_issue else "no"
    yield "**with an issue**", "", "", str(Share(count, len(names)))
