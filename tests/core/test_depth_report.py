import json
from xml.etree import ElementTree

from frostline.core.depth_report import DepthReport, DepthRow, ModelRanking, RankedModel, seconds


def report(**changes):
    rows = (
        DepthRow(None, 0.41, 0.02, 0.4, -0.5, 1.0, 0.9, 12.0, 3_400_000, 0, 60.0, None, 600.0),
        DepthRow("blocks.<1>", 0.71, 0.02, 0.7, -0.1, 2.0, 1.9, 30.0, 2_000_000, 98_304, 40.0, 20.0, 240.0, 1.2),
        DepthRow("fc.norm", 0.81, 0.01, 0.8, 0.1, 3.0, 2.9, 50.0, 7_686, 5_120, 20.0, 0.5, 25.0, 1.3, "runs again"),
    )
    return DepthReport(**{"best": "blocks.<1>", "table": rows, "advice": "Freeze through it. " * 12,
                          "reason": "deepest", "metric": "accuracy", "baseline": 0.25, "samples": 300, "epochs": 10,
                          "notes": ("a note",), **changes})  # fmt: skip


def test_it_prints_a_table_with_the_choice_and_every_note_within_the_width():
    lines = str(report()).splitlines()
    assert all(len(line) <= 110 for line in lines)
    assert any(line.startswith("->  blocks.<1>") and "0.710 ± 0.020" in line for line in lines)
    assert "(train everything)" in lines[2]
    assert "note: fc.norm: runs again" in lines
    assert "note: a note" in lines
    assert "4.0 min" in str(report())


def test_long_names_leave_out_columns_but_never_the_score():
    row = DepthRow("a_very_long_name_of_a_layer." * 3, 0.5, 0.1, 0.5, 1.0, 1.0, 1.0, 3.0, 10, 10, 1.0, 1.0, 1.0)
    text = str(report(table=(row,), best=None))
    assert "0.500 ± 0.100" in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_json_has_every_field_and_no_number_that_is_not_finite():
    found = json.loads(report(baseline=float("nan")).to_json())
    assert found["best"] == "blocks.<1>"
    assert found["baseline"] is None
    assert found["table"][1]["bytes_per_sample"] == 98_304


def test_the_picture_is_xml_with_every_line():
    root = ElementTree.fromstring(report().svg())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "blocks.<1>" in texts
    assert "inputs" in texts
    assert len([element for element in root.iter() if element.tag.endswith("circle")]) == 3


def test_seconds_are_told_in_units_that_people_read():
    assert [seconds(value) for value in (None, 0.05, 3.0, 150.0, 9000.0)] == ["", "0.05 s", "3.0 s", "2.5 min", "2.5 h"]


def test_a_ranking_says_which_cannot_be_told_apart():
    first = RankedModel("a", 0.8, 0.75, 0.85, "layer4", (0.0, 0.0, 0.0), False, report())
    second = RankedModel("b", 0.79, 0.74, 0.84, "layer3", (0.01, -0.02, 0.04), True, report())
    ranking = ModelRanking(None, (first, second), "They are alike.", "accuracy", 300)
    assert "cannot be told apart" in str(ranking)
    assert "0.010 (-0.020 to 0.040)" in str(ranking)
    assert json.loads(ranking.to_json())["table"][1]["is_tied"] is True
