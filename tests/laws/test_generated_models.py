"""Generated models: a cached training is the uncached one, or a refusal; a small seeded part of `make fuzz`."""

from __future__ import annotations

import ast
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import frostline as fl
from exams.fuzz import laws, report, runs
from exams.fuzz.drawing import draw
from exams.fuzz.kind import Kind
from exams.fuzz.kinds import FAMILIES
from exams.fuzz.laws import Outcome, judge
from exams.fuzz.oracle import is_cacheable
from exams.fuzz.programs import Program, Step
from exams.fuzz.shrinking import shrink

if TYPE_CHECKING:
    from pathlib import Path

CHUNKS = [range(at, at + 15) for at in range(0, 120, 15)]
LINEAR = Kind("linear", "$t = $L($a)", "$L = nn.Linear(4, 4)")
OF_FIT, OF_HEADS, OF_LOOPS = 7, 9, 8  # seeds of programs that these laws are asked of


def program_of(*kinds: tuple[str, Kind], later: str = "scaled", seed: int = OF_FIT) -> Program:
    """One statement after another."""
    steps = [Step(kind, place, f"v{at + 1}", f"v{at}", "v0", "v0") for at, (place, kind) in enumerate(kinds)]
    return Program("r", "tensor", tuple(steps), f"v{len(steps)}", "tensor", later, 22, 6, "sgd", seed)


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"from {seeds[0]}")
def test_no_generated_model_is_silently_different_or_crashes(seeds: range) -> None:
    outcomes = {seed: judge(draw(seed)) for seed in seeds}
    faults = {seed: found for seed, found in outcomes.items() if found.verdict in ("different", "crash")}
    assert not faults
    assert sum(found.verdict == "invalid" for found in outcomes.values()) <= len(seeds) // 3
    assert any(found.verdict == "same" for found in outcomes.values())


def test_a_program_is_a_function_of_its_seed_and_its_source_is_python() -> None:
    for seed in range(100):
        assert draw(seed) == draw(seed)
        ast.parse(draw(seed).source(is_probed=True))


def test_every_kind_makes_a_source_that_parses() -> None:
    for kinds in FAMILIES.values():
        for kind in kinds:
            for place in kind.places:
                for layout in kind.layouts:
                    ast.parse(replace(program_of((place, kind)), layout=layout).source())


def test_the_tags_of_kinds_are_their_own() -> None:
    tags = [kind.tag for kinds in FAMILIES.values() for kind in kinds]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("seed", [OF_FIT, OF_HEADS, OF_LOOPS])
def test_a_plain_model_is_the_same_and_cacheable(seed: int) -> None:
    program = program_of(("f", LINEAR), ("t", LINEAR), seed=seed)
    assert judge(program) == Outcome("same", "")
    assert is_cacheable(program)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("$t = $a - $a.mean(0)", "same"),  # what depends on the whole batch is computed in the head
        ("$t = $a + torch.randn(4)", "same"),  # noise of a mixed module belongs to the head
        ("$t = $a * (torch.arange(len($a)) % 2)[:, None]", "same"),  # so does what stands beside frozen layers
        ("$t = $a * (2 if $a.abs().max() > 5 else 1)", "same"),
        ("$t = self.first($a * (2 if $a.abs().max() > 5 else 1))", "refused"),
    ],
)
def test_features_that_follow_the_batch_are_not_cacheable(text: str, verdict: str) -> None:
    program = program_of(("f", Kind("bad", text)), ("t", LINEAR))
    assert not is_cacheable(program)
    assert judge(program).verdict == verdict


def test_frozen_state_is_not_cacheable() -> None:
    state = Kind("state", "self.c$n += 1\n$t = $a * self.c$n", "self.c$n = 0")
    assert not is_cacheable(program_of(("f", state), ("t", LINEAR)))
    assert is_cacheable(program_of(("t", LINEAR), ("t", state)))


def test_the_laws_see_a_head_that_is_not_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(("f", LINEAR), ("t", LINEAR), seed=OF_HEADS)
    whole = fl.Split.extract
    monkeypatch.setattr(
        fl.Split, "extract", lambda self, x: tuple(f * (1 + 0.1 * (len(x) == 5)) for f in whole(self, x))
    )
    assert laws.judge(program).verdict == "different"


def test_the_fit_law_sees_a_cache_that_is_not_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(("f", LINEAR), ("t", LINEAR))
    trained = laws._trained
    monkeypatch.setattr(
        laws, "_trained",
        lambda *given, **more: {name: value + 0.1 * bool(given[-1]) for name, value in trained(*given, **more).items()},
    )  # fmt: skip
    assert laws.judge(program).where == "fit"


def test_the_law_of_plain_loops_sees_a_cache_that_is_not_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = laws._trained_alone

    def changed(*given):
        found, said, read = trained(*given)
        return {name: value + 0.1 for name, value in found.items()}, said, read

    monkeypatch.setattr(laws, "_trained_alone", changed)
    assert laws.judge(program_of(("f", LINEAR), ("t", LINEAR), seed=OF_LOOPS)).where == "plain loop"


def test_an_exception_of_the_library_is_a_crash_and_one_of_the_model_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Kind("broken", "$t = $a @ torch.ones(3, 3)")
    assert judge(program_of(("t", broken))).verdict == "invalid"

    def fail(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(fl, "split", fail)
    program = program_of(("f", LINEAR), ("t", LINEAR), seed=OF_HEADS)
    assert judge(program) == Outcome("crash", "split", "KeyError: 'lost'")


def test_a_program_shrinks_to_the_statement_that_matters() -> None:
    bad = Kind("bad", "$t = $a * 2")
    program = replace(program_of(("f", LINEAR), ("t", bad), ("t", LINEAR)), inputs="pair", output="mapping")
    small = shrink(program, lambda smaller: any(step.kind is bad for step in smaller.steps))
    assert small.tags == ["t bad"]
    assert (small.inputs, small.output, small.result) == ("tensor", "tensor", "v2")
    ast.parse(small.source())


def test_the_report_counts_needless_refusals() -> None:
    shared = {"where": "", "text": "", "tags": ["t linear"], "needless": False}
    records = [{**shared, "seed": 1, "verdict": "same"}, {**shared, "seed": 2, "verdict": "refused", "needless": True}]
    assert "50.0%" in report.table(records)
    assert "| all models | 2 | 1 | 1 | 1 | 0 | 0 |" in report.table(records)
    assert "seed 2" in report.causes(records, "needless")


def test_statements_are_ranked_by_the_needless_refusals_they_add() -> None:
    shared = {"where": "", "text": ""}
    records = [
        {**shared, "seed": 1, "verdict": "same", "tags": ["t linear"], "needless": False},
        {**shared, "seed": 2, "verdict": "refused", "tags": ["t linear", "t loop"], "needless": True},
    ]
    assert report.refused_statements(records) == "- `t loop`: 1 of 1\n- `t linear`: 1 of 2"


def test_runs_in_a_folder_add_up_and_go_on_behind_the_last_seed(tmp_path: Path) -> None:
    assert runs._next_seed(tmp_path) == 0
    record = {"where": "", "text": "", "tags": ["t linear"], "needless": False}
    for name, seeds in (("0-0-of-1", (0, 1)), ("1-0-of-1", (1, 2))):
        lines = [json.dumps({**record, "seed": seed, "verdict": "same"}) for seed in seeds]
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*lines, '{"begun": 9}', '{"se']))
    assert [found["seed"] for found in runs.recorded(tmp_path)] == [0, 1, 2]
    assert runs._next_seed(tmp_path) == 3


def test_a_run_writes_a_line_per_model_and_tells_its_progress(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs.work(0, 1, time.time() + 0.01, tmp_path / "0-0-of-1.jsonl")
    assert [record["seed"] for record in runs.recorded(tmp_path)] == [0]
    runs._tell([tmp_path / "0-0-of-1.jsonl"], 2.0)
    assert "valid models (0.5 a second)" in capfd.readouterr().err


def test_a_record_tells_the_seed_and_the_verdict() -> None:
    record = runs.examine(0, is_shrunk=False)
    assert record["seed"] == 0
    assert record["verdict"] in ("same", "refused", "different", "crash", "invalid")
