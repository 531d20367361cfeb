import json
import math

import torch

from frostline.core.records import Epoch
from frostline.core.selection_records import SweepResult, SweepRow


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
