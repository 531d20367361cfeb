"""The exam of `fl.port`: its golden outputs are within reach, and its judge can tell right from wrong."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from exams.porting import __main__ as exam
from exams.porting.__main__ import MODES
from exams.porting.by_hand import by_hand
from exams.porting.networks import COUNTERPARTS
from exams.porting.renaming import rename
from exams.porting.report import MEANINGS, counts, left_out, not_exact, summary
from exams.porting.scaffolds import _error
from exams.porting.stored import LIMIT, Stored, stored
from exams.porting.tasks import by_rules, check, files, filled, judged, renamings
from exams.porting.traps import TRAPS
from exams.porting.trials import EXACT, REFUSED, TOLD, WRONG, Verdict, attempt

FILES = Path(__file__).parents[1] / "porting" / "files" / "networks"
NETWORKS = stored(FILES)
REACHABLE = [network for network in NETWORKS if not network.counterpart.refused]


def named(network: Stored) -> str:
    return f"{network.framework}/{network.name}"


def test_the_networks_are_those_that_were_stored():
    assert len(NETWORKS) == 18
    assert {network.framework for network in NETWORKS} == {"flax", "keras", "onnx", "paddle", "tensorflow", "torch"}


@pytest.mark.parametrize("network", REACHABLE, ids=named)
def test_the_layout_rules_applied_by_hand_reach_the_golden_outputs(network):
    assert network.error(filled(network)) <= LIMIT


def test_golden_outputs_notice_one_wrong_layer():
    twins = next(network for network in NETWORKS if named(network) == "onnx/twins")
    pairs = dict(twins.counterpart.pairs)
    pairs["plus.2"], pairs["minus.2"] = pairs["minus.2"], pairs["plus.2"]
    module = twins.counterpart.build()
    module.load_state_dict(by_hand(module, twins.arrays, pairs, "onnx"))
    assert twins.error(module) > 1000 * LIMIT


@pytest.mark.parametrize("name", sorted(COUNTERPARTS))
def test_a_renamed_counterpart_has_the_same_parts(name):
    plain, other = (COUNTERPARTS[name].build() for _ in range(2))
    rename(other, random.Random(name))
    assert parts(other) == parts(plain)


def parts(module):
    kinds = [type(part).__name__ for part in module.modules()]
    return sorted(kinds), sorted(tuple(value.shape) for value in module.state_dict().values())


@pytest.mark.parametrize("network", REACHABLE, ids=named)
def test_a_renamed_counterpart_still_reaches_the_golden_outputs(network):
    assert network.error(rename(filled(network), random.Random(0))) <= LIMIT


def test_a_renamed_counterpart_has_no_old_name():
    network = next(network for network in NETWORKS if named(network) == "flax/attention")
    module = rename(network.counterpart.build(), random.Random(0))
    assert not {name.split(".")[0] for name in module.state_dict()} & {"intra", "inter", "ln", "end"}


def test_a_port_is_judged_by_the_golden_outputs():
    network = next(network for network in NETWORKS if named(network) == "keras/conv2d")
    assert attempt(network, "model.weights.h5", "plain").outcome == EXACT
    refused = next(network for network in NETWORKS if network.counterpart.refused)
    verdict = attempt(refused, "model.weights.h5", "plain")
    assert (verdict.outcome, verdict.as_expected) == (REFUSED, True)
    gru = next(network for network in NETWORKS if named(network) == "keras/gru")
    wrong = attempt(gru, "model.weights.h5", "plain", change=lambda module: module.register_forward_hook(spoil))
    assert wrong.outcome == WRONG


def spoil(module, args, output):
    return output * (1 + 1e-3)


def test_renamings_are_spread_over_all_files_and_repeatable():
    chosen = [network for network in NETWORKS if named(network) in ("keras/gru", "keras/conv2d")]
    one, two = ([replace(each.judge(), elapsed_s=0.0) for each in renamings(chosen, 4)] for _ in range(2))
    assert one == two
    assert [verdict.outcome for verdict in one] == [EXACT] * 4
    assert {verdict.network for verdict in one} == {"keras/gru", "keras/conv2d"}


def test_a_network_may_be_judged_with_golden_outputs_only():
    plain, other = NETWORKS[0], replace(NETWORKS[0], name="other")
    other.__dict__["counterpart"] = replace(plain.counterpart, golden_only="other weights")
    assert judged([plain, other], "golden") == [plain, other]
    assert [judged([plain, other], mode) for mode in ("plain", "renamed", "lying names")] == [[plain]] * 3
    assert left_out([plain]) == []
    line = f"* `{other.framework}/other` is ported with golden outputs only: other weights."
    assert left_out([plain, other]) == [line, ""]


def test_small_outputs_of_scaffolds_are_compared_with_their_largest_value():
    golden = ([torch.tensor([1e-4])], [torch.tensor([1.001e-4])])
    assert _error(torch.nn.Identity(), golden, 1e-30) > LIMIT
    assert _error(torch.nn.Identity(), golden, 0.1) <= LIMIT
    assert _error(torch.nn.Identity(), ([torch.zeros(2)], [torch.zeros(2)]), 1e-30) == 0


def test_files_under_other_names_are_told_apart():
    network = replace(next(network for network in NETWORKS if named(network) == "onnx/twins"))
    network.__dict__["facts"] = {"files": ["model.onnx", "renamed.onnx", "lying.onnx"]}
    assert [files(network, kind=kind) for kind in ("", "renamed", "lying")] == [
        ["model.onnx"], ["renamed.onnx"], ["lying.onnx"],
    ]  # fmt: skip


def test_a_trap_must_change_the_outputs():
    network = next(network for network in NETWORKS if named(network) == "onnx/square_dense")
    check(network, TRAPS["another activation"][1])
    with pytest.raises(ValueError, match="no trap"):
        check(network, lambda module: None)


def test_the_page_counts_what_is_wrong():
    facts = {"network": "keras/gru", "file": "model.keras"}
    verdicts = [
        Verdict(**facts, mode="plain", outcome=EXACT), Verdict(**facts, mode="golden", outcome=WRONG, error=0.5),
        Verdict(**facts, mode="traps", outcome=TOLD, detail="eps differs"),
        Verdict(**facts, mode="plain", outcome=REFUSED, detail="no", as_expected=True),
    ]  # fmt: skip
    first, second = summary("plain", verdicts).split("\n")
    assert first == f"plain: 1 {EXACT}, 1 {REFUSED}, 1 {TOLD}, 1 {WRONG}"
    assert second == f"  golden, {WRONG}: keras/gru model.keras, error 5.0e-01"
    assert [line.split("|")[2].strip() for line in counts(verdicts)[2:]] == ["2", "1", "1"]
    assert [line.split("|")[2].strip() for line in not_exact(verdicts)[2:]] == ["golden"]


def test_every_mode_has_a_line_on_the_page():
    assert {*MODES} - {"peers"} == {*MEANINGS} - {"weightbridge", "onnx2torch", "onnx2pytorch"}


def test_the_rules_by_hand_are_part_of_the_page():
    assert {task.judge().outcome for task in by_rules(NETWORKS)} == {EXACT}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The exam with pages and results of its own, and networks that nothing is ported of."""
    monkeypatch.setattr(exam, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(exam, "REPORT", tmp_path / "page.md")
    monkeypatch.setattr(exam, "stored", lambda _: NETWORKS[:1])
    monkeypatch.setattr(exam, "run", lambda mode, *_: [Verdict("keras/a", "f", mode, EXACT)])
    monkeypatch.setattr("exams.porting.report.commit", lambda: "new")
    old = [Verdict("keras/a", "f", mode, EXACT, commit="old") for mode in MEANINGS]

    def called(*options, kept=old):
        exam.RESULTS.write_text(json.dumps([asdict(one) for one in kept]))
        monkeypatch.setattr("sys.argv", ["exam", "--no-build", *options])
        exam.main()
        return json.loads(exam.RESULTS.read_text()), exam.REPORT.read_text() if exam.REPORT.exists() else ""

    return called, old


def test_one_mode_is_merged_into_the_page_with_its_commit(results):
    called, _old = results
    stored_now, page = called("--mode", "golden")
    assert {(one["mode"], one["commit"]) for one in stored_now} == {
        (mode, "new" if mode == "golden" else "old") for mode in MEANINGS
    }
    assert "at commit old, new:" in page
    assert [line.split("|")[-2].strip() for line in page.splitlines() if MEANINGS["golden"] in line] == ["new"]
    assert json.loads(exam.REPORT.with_suffix(".json").read_text())["commits"]["plain"] == "old"


def test_the_page_is_not_written_while_modes_are_missing(results, capsys):
    called, old = results
    stored_now, page = called("--mode", "golden", kept=old[:2])
    assert (len(stored_now), page) == (3, "")
    assert "was not written: there are no results of other names, lying names" in capsys.readouterr().out


def test_some_networks_only_are_printed(results, capsys):
    called, old = results
    stored_now, page = called("--only", "keras", "--mode", "golden")
    assert (stored_now, page) == ([asdict(one) for one in old], "")
    assert "golden: 1 exact" in capsys.readouterr().out
