import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer

import frostline as fl
from frostline.cli.output import errors_in_four_parts, plain, show, table, with_options


@dataclass(frozen=True)
class Record:
    path: Path
    shape: tuple[int, ...]


def test_records_paths_and_dtypes_are_json(capsys):
    record = Record(Path("a/b"), (2, 3))
    assert plain({1: record, "dtype": torch.float32, "none": None, "loss": [float("nan"), 1.5]}) == {
        "1": {"path": "a/b", "shape": [2, 3]}, "dtype": "torch.float32", "none": None, "loss": [None, 1.5]}  # fmt: skip
    show(record, "text", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"path": "a/b", "shape": [2, 3]}
    show(record, "text", as_json=False)
    assert capsys.readouterr().out == "text\n"


@pytest.mark.parametrize(("error", "code"), [(fl.DataError(what="W.", where="w", received="r", do="d."), 1),
                                             (KeyboardInterrupt(), 130)])  # fmt: skip
@pytest.mark.parametrize("as_json", [True, False])
def test_errors_have_their_place_and_their_code(capsys, error, code, as_json):
    with pytest.raises(typer.Exit) as caught, errors_in_four_parts(as_json=as_json):
        raise error
    out, err = capsys.readouterr()
    assert caught.value.exit_code == code
    assert (bool(out), bool(err)) == (as_json, not as_json)
    parts = json.loads(out)["error"] if as_json else err
    assert "do" in parts or "Do:" in parts


def test_errors_that_are_not_ours_pass():
    with pytest.raises(ZeroDivisionError), errors_in_four_parts(as_json=True):
        raise ZeroDivisionError


def test_columns_are_as_wide_as_their_widest_entry():
    assert table([("layer3", "5"), ("a", "12345")], ("name", "rows")).splitlines() == [
        "name    rows", "------  -----", "layer3  5", "a       12345"]  # fmt: skip


@pytest.mark.parametrize(("where", "told"), [
    ("fit(patience=...)", "--patience"), ("fit(metric='auroc')", "--metric"), ("fit(num_workers=...)", "--workers"),
    ("fit(val=...), sample 5", "--val, sample 5"), ("fit(resume=..., overwrite=True)", "--resume"),
    ("split_share(share=...)", "--val-share"), ("export(path=...)", "--out"),
    ("predict(batch_size=...)", "--batch-size"),
    ("fit(loss=...)", "fit(loss=...)"), ("fit(train)", "fit(train)"), ("layer3 (ReLU)", "layer3 (ReLU)"),
])  # fmt: skip
def test_arguments_of_fit_are_told_as_options(capsys, where, told):
    assert with_options(where) == told
    with pytest.raises(typer.Exit), errors_in_four_parts(as_json=False):
        raise fl.DataError(what="W.", where=where, received="r", do="d.")
    assert f"Where:    {told}\n" in capsys.readouterr().err
