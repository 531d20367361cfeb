"""`frostline sweep`, as people call it."""

import json

import pytest

import frostline as fl
from frostline.recipes.sweep_command import settings_of
from helpers_commands import MODEL, run


def test_settings_are_every_combination_and_solved_heads_have_no_rate():
    found = settings_of(lr="0.1,0.2", weight_decay="0,1", dropout=None, width="0,8", optimizer="sgd, probe")
    assert len(found) == 8 + 2
    assert found[0] == {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0, "width": 0}
    assert found[-1] == {"optimizer": "probe", "weight_decay": 1.0}
    with pytest.raises(fl.DataError, match="--width takes numbers with commas between them"):
        settings_of(lr="0.1", weight_decay=None, dropout=None, width="wide", optimizer="sgd")


def test_the_best_head_is_saved_and_predicts(tmp_path, arrays):
    out = tmp_path / "out"
    done = run(
        "sweep",
        arrays,
        "--model",
        MODEL,
        "--lr",
        "0.00001,0.03",
        "--epochs",
        4,
        "--val",
        arrays,
        "--out",
        out,
        "--json",
    )
    found = json.loads(done.stdout)
    assert found["result"]["best"]["number"] == 1
    assert found["result"]["held_out"] == 40
    assert "epoch 4/4  2 heads" in done.stderr
    score = found["result"]["best"]["score"]
    right = [one.label == str(at % 5) for at, one in enumerate(fl.predict(out, arrays))]
    assert sum(right) / len(right) == pytest.approx(score)
    again = run("sweep", arrays, "--model", MODEL, "--out", out, code=1)
    assert "A file of this name exists already" in again.stderr


def test_a_hidden_layer_is_loaded_again(tmp_path, arrays):
    out = tmp_path / "out"
    args = ("--lr", "0.01", "--width", 16, "--dropout", 0.1, "--epochs", 3, "--val", arrays, "--out", out)
    text = run("sweep", arrays, "--model", MODEL, *args).stdout
    assert "Saved:" in text
    assert "note: the layer" in text
    facts = json.loads((out / "model.json").read_text())
    assert facts["hidden"]["width"] == 16
    loaded = fl.load(out)
    assert [type(part).__name__ for part in loaded.model.get_submodule(facts["hidden"]["layer"])] == [
        "Linear", "ReLU", "Dropout", "Linear"]  # fmt: skip
    assert len(fl.predict(out, arrays)) == 40


def test_what_cannot_be_swept_is_told_in_four_parts(tmp_path, arrays):
    for options, what in (
        (("--optimizer", "lion"), "There is no optimizer named 'lion'"),
        (("--val-share", 2), "share is not a finite number above 0 and below 1"),
        (("--dropout", 1), "dropout is not a finite number"),
    ):
        done = run("sweep", arrays, "--model", MODEL, "--out", tmp_path / "new", *options, "--json", code=1)
        assert what in json.loads(done.stdout)["error"]["what"]
        assert not (tmp_path / "new" / "cache").exists()  # nothing was computed
