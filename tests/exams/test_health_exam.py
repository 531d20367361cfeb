import itertools
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from exams.health import __main__ as command
from exams.health import report, runner, seeds, truth
from exams.health.baselines import autotrainer, dummy, remedies, sagemaker
from exams.health.baselines.watch import watch
from exams.health.cases import Case, all_cases, healthy_cases, part_of, small
from exams.health.controls import CONTROLS, SEEDS
from exams.health.families import SICKNESSES
from exams.health.judges import JUDGES
from exams.health.recipe import Recipe
from exams.health.scoring import Share, closed, score_checkups, score_repairs, wilson
from exams.health.training import prepare, train

DEEP_SIGMOID = Recipe(dataset="digits", depth=8, activation="sigmoid")
DEAD = Recipe(dataset="digits", depth=4, bias=-3.0)
HEALTHY = Recipe(dataset="digits")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cases():
    return all_cases()


# --- Scores


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 360, 0.0, 0.01056), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2552, 0.3662)],
)  # the last is the worked example of Newcombe (1998), method 3
def test_wilson_interval_matches_known_values(hits, total, low, high):
    assert wilson(hits, total) == pytest.approx((low, high), abs=5e-4)


def test_a_share_of_nothing_has_no_value():
    assert math.isnan(Share(0, 0).value)
    assert Share(0, 0).interval == (0.0, 1.0)


def _said(family, severity, alarm, families=(), accepted=(), error="", is_hard=False):
    return {
        "family": family, "severity": severity, "alarm": alarm, "families": list(families),
        "accepted": list(accepted), "error": error, "is_hard": is_hard,
    }  # fmt: skip


def test_checkup_scores_count_each_kind_of_answer():
    scores = score_checkups(
        [
            _said("vanishing", 3, True, ["initialization"], ["vanishing", "initialization"]),
            _said("vanishing", 4, True, ["dead_units"], ["vanishing"]),
            _said("exploding", 2, False),
            _said("exploding", 1, True, ["exploding"], ["exploding"]),  # sub-clinical: on its own
            _said("exploding", 4, True, ["exploding"], ["exploding"], error="it fell over"),  # an error sees nothing
            _said(None, 0, False),
            _said(None, 0, True, ["exploding"], is_hard=True),
            _said(None, 0, False, error="it fell over"),  # on a healthy network an error is an alarm
        ]
    )
    assert (scores.recall.hits, scores.recall.total) == (2, 4)
    assert (scores.first.hits, scores.first.total) == (1, 4)
    assert (scores.subclinical.hits, scores.subclinical.total) == (1, 1)
    assert (scores.false_alarms.hits, scores.false_alarms.total) == (2, 3)
    assert (scores.false_alarms_hard.hits, scores.false_alarms_hard.total) == (1, 1)
    assert scores.families["vanishing"][1].hits == 1


def _mended(family, plain, twin, healed, ratio, changed=True, error=""):
    return {
        "family": family, "plain": plain, "twin": twin, "healed": healed, "time_ratio": ratio,
        "accepted_repair": changed, "error": error,
    }  # fmt: skip


def test_repair_scores_ask_for_the_gap_and_for_the_time():
    records = [
        _mended("vanishing", 0.1, 0.9, 0.82, 1.2),  # 90% of the gap, in time
        _mended("vanishing", 0.1, 0.9, 0.90, 1.6),  # closed, too late
        _mended("exploding", 0.1, 0.9, 0.81, 1.0),  # 89%
        _mended(None, 0.95, 0.95, 0.945, 1.0, changed=False),
        _mended(None, 0.95, 0.95, 0.93, 1.0),  # harmed
        _mended(None, 0.95, 0.95, 0.93, 1.0, changed=False),  # not treated: other noise
    ]
    scores = score_repairs(records)
    assert closed(records[0]) == pytest.approx(0.9)
    assert (scores.repaired.hits, scores.repaired_in_time.hits, scores.repaired.total) == (2, 1, 3)
    assert (scores.treated_healthy.hits, scores.harmed.hits, scores.harmed.total) == (1, 1, 3)
    assert scores.time_ratio == 1.2


# --- Cases and ground truth


def test_case_ids_are_unique_and_parts_are_kept_apart(cases):
    assert len({case.id for case in cases}) == len(cases)
    assert all(case.part == part_of(case.dataset, case.seed) for case in cases)
    assert part_of("blobs", 1) == "tuning"
    assert {part_of("blobs", 2), part_of("digits", 0), part_of("waves", 1)} == {"held_out"}
    assert {part_of(dataset, seed) for dataset in ("blobs", "circles") for seed in (4, 5)} == {"held_out"}


def test_the_exam_is_as_large_and_as_hard_as_it_says(cases):
    healthy = [case for case in cases if case.family is None]
    sick = [case for case in cases if case.family]
    assert len(healthy) >= 300
    assert sum(case.is_hard for case in healthy) >= len(healthy) / 2
    networks = [
        {case.name for case in cases if case.recipe.network in kinds and (case.family is None) == is_healthy}
        for kinds, is_healthy in (
            (("lstm", "gru"), False), (("lstm", "gru"), True), (("conv", "residual"), True), (("transformer",), True),
        )
    ]  # fmt: skip
    assert all(len(names) >= 2 for names in networks)
    assert {sickness.family for sickness in SICKNESSES} == {case.family for case in sick}
    assert {case.severity for case in sick} == {1, 2, 3, 4}


def test_names_of_sicknesses_and_controls_do_not_collide():
    names = [s.code for s in SICKNESSES] + [c.name for c in CONTROLS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("recipe", [DEAD, replace(HEALTHY, dropout=0.5), Recipe("waves", network="gru", depth=1)])
def test_the_same_recipe_gives_the_same_training_to_the_bit(recipe):
    first, second = prepare(recipe), prepare(recipe)
    losses = [train(setup, setup.batches[:10]).losses for setup in (first, second)]
    assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    other = prepare(replace(recipe, seed=1))
    assert not torch.equal(next(first.model.parameters()), next(other.model.parameters()))


@pytest.mark.parametrize("dataset", ["blobs", "digits"])
def test_every_seed_has_its_own_split_order_and_weights(dataset):
    setups = [prepare(replace(HEALTHY, dataset=dataset, seed=seed)) for seed in (*SEEDS, 4, 5)]
    for kind in (
        [setup.data.test_x for setup in setups],
        [setup.data.train_x for setup in setups],
        [setup.batches[0][0] for setup in setups],
        [next(setup.model.parameters()) for setup in setups],
    ):
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(kind, 2))


def test_preparing_leaves_the_callers_random_state_alone():
    before = torch.get_rng_state()
    prepare(HEALTHY)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["D3", "V1", "L3"])
def test_ground_truth_on_file_is_what_training_decides(name, cases):
    case = next(c for c in cases if c.name == name and c.severity == 4 and c.dataset in ("blobs", "digits"))
    sick, twin = truth.outcome(case.recipe), truth.outcome(case.twin)
    assert truth.severity_of(sick.score, twin.score, sick.evidence.is_finite) >= 3
    assert truth.BY_CODE[name].oracle(sick.evidence, twin.evidence)
    assert sick.score == pytest.approx(case.plain_score, abs=0.1)  # other processors round otherwise


def test_severity_grows_with_the_gap_and_nan_is_terminal():
    assert [truth.severity_of(0.9 - gap, 0.9) for gap in (0.01, 0.03, 0.06, 0.2, 0.5)] == [0, 1, 2, 3, 4]
    assert truth.severity_of(0.8, 0.9, is_finite=False) == 4
    assert truth.severity_of(0.9, 0.9, is_finite=False) == 0


def test_a_twin_that_is_sick_itself_makes_no_case():
    def group(*twins):
        return {"dataset": "digits", "reason": "", "seeds": [{"twin": twin} for twin in twins]}

    groups = [group(0.95, 0.97), group(0.85, 0.87), group(0.7, 0.9), group(0.9, 0.9, 0.9, 0.9, 0.1, 0.1)]
    truth.leave_out_sick_twins(groups)
    assert [bool(g["reason"]) for g in groups] == [False, False, True, False]  # added seeds decide nothing


def test_a_seed_of_a_control_that_goes_wrong_is_not_called_healthy():
    decided = {"control": "sparse_80", "dataset": "digits", "reason": "", "scores": [0.96, 0.09, 0.91, 0.95]}
    assert [case.seed for case in healthy_cases([decided])] == [0, 2, 3]
    decided["scores"] += [0.83, 0.99]  # judged by the best of those that decide
    assert [case.seed for case in healthy_cases([decided])] == [0, 2, 3, 5]
    decided["scores"][4:] = [0.85, 0.99]
    assert [case.seed for case in healthy_cases([decided])] == [0, 2, 3, 4, 5]


# --- Seeds that are added to what is decided


def _decided(path, monkeypatch, ends):
    """A file with one kept and one dropped group and one control; trainings end as `ends` says, without training."""
    groups = [
        {
            "sickness": "V1", "dataset": "digits", "value": value, "severity": 2, "reason": reason,
            "seeds": [{"seed": seed, "severity": 2, "sick": 0.8, "twin": 0.9} for seed in SEEDS],
            "accepted": ["vanishing"],
        }
        for value, reason in ((5, ""), (6, "repeated: a milder value is as severe"))
    ]  # fmt: skip
    controls = [{"control": "bn_3", "dataset": "digits", "reason": "", "scores": [0.9, 0.9, 0.9, 0.9]}]
    truth.save({"groups": groups, "controls": controls}, path)
    asked = []
    healthy = asdict(truth.outcome(replace(HEALTHY, steps=1)).evidence)

    def outcome(recipe):
        asked.append(recipe)
        kind = "control" if recipe.norm == "batch" else "sick" if recipe.activation == "sigmoid" else "twin"
        score, has_mechanism, is_finite = ends[(kind, recipe.seed)]
        ratio = 1e-6 if has_mechanism else 1.0
        evidence = SimpleNamespace(**healthy | {"gradient_ratio_0": ratio, "is_finite": is_finite})
        return SimpleNamespace(score=score, evidence=evidence)

    monkeypatch.setattr(seeds, "outcome", outcome)
    return asked


def test_added_seeds_are_judged_one_by_one_and_change_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "truth.json"
    ends = {
        ("sick", 4): (0.1, True, True), ("twin", 4): (0.9, False, True), ("control", 4): (0.88, False, True),
        ("sick", 5): (0.1, False, True), ("twin", 5): (0.9, False, True), ("control", 5): (0.9, False, False),
        ("sick", 6): (0.9, True, True), ("twin", 6): (0.9, False, True), ("control", 6): (0.5, False, True),
    }  # fmt: skip
    asked = _decided(path, monkeypatch, ends)
    before = truth.read(path)
    seeds.add((5, 4), 1, path=path)
    assert {recipe.seed for recipe in asked} == {4, 5}
    assert {recipe.depth for recipe in asked if recipe.activation == "sigmoid"} == {5}  # kept groups only
    first = len(asked)
    seeds.add((4, 5, 6), 1, missing=True, path=path)
    assert {recipe.seed for recipe in asked[first:]} == {6}  # what is on file is left alone
    after = truth.read(path)
    assert after["groups"][1] == before["groups"][1]
    new = after["groups"][0]["seeds"][len(SEEDS) :]
    assert after["groups"][0] | {"seeds": after["groups"][0]["seeds"][: len(SEEDS)]} == before["groups"][0]
    assert [(seed["seed"], seed["severity"]) for seed in new] == [(4, 2), (5, 0), (6, 0)]  # 80 points, but a mild group
    assert ["oracle" in seed.get("reason", "") for seed in new] == [False, True, False]
    assert after["controls"][0]["scores"] == [0.9, 0.9, 0.9, 0.9, 0.88, 0.0, 0.5]  # NaN is no score
    assert [case.seed for case in all_cases(after)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert "Of 3 sick trainings from seeds after 3, 1 were dropped for want of a gap to the twin, and 1 by oracle." in (
        report._cases_table(after)
    )


def test_only_seeds_that_follow_can_be_added(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["exam", "--decide", "--seeds", "5"])
    with pytest.raises(SystemExit):
        command.main()
    assert "without a gap" in capsys.readouterr().err


def test_the_small_exam_does_not_depend_on_added_seeds(cases):
    deciding = [case for case in cases if case.seed in SEEDS]
    added = [case for case in cases if case.seed not in SEEDS]
    assert len(added) > 600
    assert {case.part for case in added} == {"held_out"}
    assert small(cases) == small(deciding)
    assert {4, 5} <= {case.seed for case in small(added)} <= set(range(4, 14))


# --- Rivals


def test_autotrainer_names_the_textbook_cases():
    assert autotrainer.problems(_watched(DEEP_SIGMOID))[0] == "vanish"
    assert autotrainer.problems(_watched(DEAD))[0] == "relu"
    assert autotrainer.problems(_watched(replace(HEALTHY, depth=10, gain=3.0)))[0] == "explode"
    assert autotrainer.problems(_watched(HEALTHY)) == []


def test_sagemaker_rules_fire_on_the_textbook_cases_and_are_quiet_on_a_healthy_one():
    assert ("DeadRelu", "dead_units") in sagemaker.rules(_watched(DEAD))
    assert ("ExplodingTensor", "exploding") in sagemaker.rules(_watched(replace(HEALTHY, nan_rows=3)))
    assert sagemaker.rules(_watched(HEALTHY)) == []
    assert sagemaker.is_loss_stuck([1.0] * 30)
    assert not sagemaker.is_loss_stuck([1.0 / (1 + i) for i in range(30)])


def test_the_dummy_alarms_on_nan_and_on_low_accuracy_only():
    assert dummy.is_bad(_watched(replace(HEALTHY, nan_rows=3)))
    assert dummy.is_bad(_watched(DEEP_SIGMOID))
    assert not dummy.is_bad(_watched(HEALTHY))


def _watched(recipe):
    setup = prepare(replace(recipe, steps=100))
    return watch(setup, setup.batches)


@pytest.mark.parametrize("name", sorted(remedies.REMEDIES))
def test_every_remedy_leaves_a_training_that_goes_on(name):
    setup = prepare(replace(HEALTHY, depth=2, steps=5))
    snapshot = remedies.remember(setup)
    assert remedies.REMEDIES[name](setup)
    assert train(setup, setup.batches).is_finite
    snapshot.restore(setup)
    untouched = prepare(replace(HEALTHY, depth=2, steps=5))
    assert train(setup, setup.batches).losses == train(untouched, untouched.batches).losses


def test_a_repair_is_scored_against_the_twin_with_everyone_having_seen_the_same_batches(monkeypatch):
    case = Case(
        "x/digits/0", "x", "learning_rate", ("learning_rate",), 4, "digits", 0, "held_out",
        replace(HEALTHY, lr=1e-5), HEALTHY, 0.1, 0.96,
    )  # fmt: skip

    class Oracle:
        name = "oracle"

        def heal(self, setup, batches):
            for group in setup.optimizer.param_groups:
                group["lr"] = 0.05
            train(setup, batches[: len(batches) * 4 // 5])
            return True

    monkeypatch.setitem(JUDGES, "oracle", Oracle)
    record = runner.repair(runner.Task(case, ("oracle",), "repair"), "oracle")
    assert record["error"] == ""
    assert closed(record) > 0.9
    assert 0.3 < record["time_ratio"] < 3


def test_a_judge_that_raises_is_on_record_and_ends_nothing(monkeypatch, cases):
    class Broken:
        name = "broken"
        heal = None

        def checkup(self, case):
            raise ValueError("broken")

    monkeypatch.setitem(JUDGES, "broken", Broken)
    record = runner.check_up(runner.Task(cases[0], ("broken",), "checkup"), "broken")
    assert record["error"] == "ValueError: broken"
    assert not record["alarm"]


def test_the_command_examines_and_reports(tmp_path, monkeypatch, capsys):
    results, written = tmp_path / "r.json", tmp_path / "r.md"
    options = [
        "--judge",
        "autotrainer",
        "random",
        "--only",
        "I1",
        "--part",
        "tuning",
        "--small",
        "--repair",
        "--jobs",
        "1",
    ]
    monkeypatch.setattr("sys.argv", ["exam", *options, "--results", str(results), "--report", str(written)])
    command.main()
    assert "| autotrainer | " in capsys.readouterr().out
    kinds = report.json.loads(results.read_text())
    assert {r["judge"] for r in kinds["repairs"]} == {"autotrainer", "random"}
    assert all(r["part"] == "tuning" and r["name"] == "I1" and not r["error"] for r in kinds["checkups"])


def test_the_report_names_every_miss(tmp_path):
    common = {"case": "V1/digits/depth=8/0", "name": "V1", "dataset": "digits", "part": "held_out", "network": "mlp"}
    missed = _said("vanishing", 4, False) | common | {"judge": "dummy", "why": "", "elapsed_s": 1.0}
    results = tmp_path / "r.json"
    results.write_text(report.json.dumps({"checkups": [missed], "repairs": [], "machine": "m", "heal_share": 0.2}))
    text = report.write(results, tmp_path / "r.md")
    assert "`V1/digits/depth=8`, seed 0: severity 4" in text
    assert "0.0% (0/1" in text
