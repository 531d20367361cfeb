import dataclasses

import pytest
import torch
from typer.testing import CliRunner

import frostline as fl
from frostline.cli.main import app
from frostline.demo.foreign_weights import FILE, KERAS_ACCURACY, Digits, build, run_port_act


def test_the_act_on_real_scans():
    said = []
    act = run_port_act(said.append)
    assert act.by_hand < 0.2 < 0.9 < act.ported
    assert round(act.ported, 4) == KERAS_ACCURACY
    assert "the first layer that differs is 'strokes' (Conv2D) and 'first' (Conv2d)" in act.refused
    assert "agree with an interpretation of the file's own graph in float64" in act.tested
    assert len(said) == 1
    text = act.text()
    assert text.startswith("3. A network that Keras saved")
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert f"{act.by_hand:.3f}" in text


def test_it_says_what_was_measured():
    act = dataclasses.replace(run_port_act(lambda _: None), by_hand=0.9, ported=0.5)
    assert [line.split()[-1] for line in act.text().splitlines()[3:6]] == ["0.974", "0.900", "0.500"]


def test_all_shapes_of_the_wrong_module_fit():
    shapes = [{name: tensor.shape for name, tensor in Digits(is_usual=usual).state_dict().items()} for usual in (0, 1)]
    assert shapes[0] == shapes[1]
    with pytest.raises(fl.PortError, match="does not compute what the source network does"):
        fl.port(FILE, Digits(is_usual=True))
    assert build()(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_a_new_head_is_trained_on_the_layers_of_keras(tmp_path):
    from frostline.demo.data import few_per_class, load_digits_task, save_arrays

    save_arrays(tmp_path / "data.npz", few_per_class(load_digits_task(range(5, 10))[0], 8, 0))
    args = ["fit", tmp_path / "data.npz", "--model", "frostline.demo.foreign_weights:build", "--weights", FILE,
            "--epochs", 1, "--no-cache", "--out", tmp_path / "o"]  # fmt: skip
    result = CliRunner().invoke(app, list(map(str, args)))
    assert result.exit_code == 0, result.output
    assert "12 tensors of 5 layers ported from" in result.stdout


def test_the_file_is_small():
    assert FILE.stat().st_size < 50_000
