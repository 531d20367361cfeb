import json
import math
from xml.etree import ElementTree

import torch

from frostline.core.records import Epoch
from frostline.core.selection_records import DepthReport, DepthRow, ModelRanking, RankedModel, SweepResult, SweepRow


def row(number, score, **settings):
    return SweepRow(number, settings, score, 0.5, 0.25, 2, 3, "trained" if score == score else "diverged", "flat")


def result():
    table = (row(1, 0.9, lr=0.01), row(0, 0.8, lr=0.1, optimizer=torch.optim.SGD), row(2, math.nan, lr=1e9))
    history = ((Epoch(1, 0.5, 0.6, 0.8, 0.1, 0.0, {"accuracy": 0.8}),), (), ())
    return SweepResult(table[0], table, history, "accuracy", 80, 20, 1.25, ("a note",))


def test_a_sweep_prints_as_a_table_best_first():
    lines = str(result()).splitlines()
    assert lines[0] == "3 heads over 80 rows, compared on 20, in 1.2 s."
    assert lines[1].split() == ["head", "lr", "optimizer", "accuracy", "loss", "epoch", "outcome"]
    assert lines[3].split() == ["#1", "0.01", "-", "0.9000", "0.5000", "2/3", "trained"]
    assert lines[4].split() == ["#0", "0.1", "SGD", "0.8000", "0.5000", "2/3", "trained"]
    assert lines[-1] == "note: a note"
    assert repr(result()) == str(result())


def test_scores_are_in_the_order_of_the_settings():
    assert result().scores[:2] == (0.8, 0.9)
    assert math.isnan(result().scores[2])


def test_json_holds_everything():
    told = json.loads(result().to_json())
    assert told["best"]["settings"] == {"lr": 0.01}
    assert told["table"][1]["settings"]["optimizer"] == "SGD"
    assert told["table"][2]["score"] is None
    assert told["history"][0][0]["val_metrics"] == {"accuracy": 0.8}


def depth_report(**changes):
    rows = (
        DepthRow(None, 0.41, 0.02, 0.4, -0.5, 1.0, 0.9, 12.0, 3_400_000, 0, 60.0, None, 600.0,
                 reachable=0.62, reachable_error=0.01),
        DepthRow("blocks.<1>", 0.71, 0.02, 0.7, -0.1, 2.0, 1.9, 30.0, 2_000_000, 98_304, 40.0, 20.0, 240.0, 1.2,
                 reachable=0.65, reachable_error=0.0),
        DepthRow("fc.norm", 0.81, 0.01, 0.8, 0.1, 3.0, 2.9, 50.0, 7_686, 5_120, 20.0, 0.5, 25.0, 1.3, "runs again"),
    )  # fmt: skip
    return DepthReport(**{"best": "blocks.<1>", "table": rows, "advice": "Freeze through it. " * 12,
                          "reason": "deepest", "metric": "accuracy", "baseline": 0.25, "samples": 300, "epochs": 10,
                          "notes": ("a note",), **changes})  # fmt: skip


def test_it_prints_a_table_with_the_choice_and_every_note_within_the_width():
    lines = str(depth_report()).splitlines()
    assert all(len(line) <= 110 for line in lines)
    assert any(line.startswith("->  blocks.<1>") and "0.650 ± 0.000  0.710 ± 0.020" in line for line in lines)
    assert "(train everything)" in lines[2]
    assert "note: fc.norm: runs again" in lines
    assert "note: a note" in lines
    assert "4.0 min" in str(depth_report())


def test_long_names_leave_out_columns_but_never_the_score():
    row = DepthRow("a_very_long_name_of_a_layer." * 3, 0.5, 0.1, 0.5, 1.0, 1.0, 1.0, 3.0, 10, 10, 1.0, 1.0, 1.0)
    text = str(depth_report(table=(row,), best=None))
    assert "0.500 ± 0.100" in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_json_has_every_field_and_no_number_that_is_not_finite():
    found = json.loads(depth_report(baseline=float("nan")).to_json())
    assert found["best"] == "blocks.<1>"
    assert found["baseline"] is None
    assert found["table"][1]["bytes_per_sample"] == 98_304


def test_the_picture_is_xml_with_every_line():
    root = ElementTree.fromstring(depth_report().svg())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "blocks.<1>" in texts
    assert "inputs" in texts
    assert "fc.norm" not in texts  # it cannot be frozen
    assert len([element for element in root.iter() if element.tag.endswith("circle")]) == 2


def test_a_ranking_says_which_cannot_be_told_apart():
    first = RankedModel("a", 0.8, 0.75, 0.85, "layer4", (0.0, 0.0, 0.0), False, depth_report())
    second = RankedModel("b", 0.79, 0.74, 0.84, "layer3", (0.01, -0.02, 0.04), True, depth_report())
    ranking = ModelRanking(None, (first, second), "They are alike.", "accuracy", 300)
    assert "cannot be separated" in str(ranking)
    assert "0.010 (-0.020 to 0.040)" in str(ranking)
    assert json.loads(ranking.to_json())["table"][1]["is_tied"] is True
