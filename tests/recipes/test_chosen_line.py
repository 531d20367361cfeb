import importlib
import json

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.selection_records import DepthReport
from frostline.recipes.choose_depth import Depth, measured
from frostline.recipes.chosen_line import chosen_line
from helpers_fit import D, data, fit, mlp

module = importlib.import_module("frostline.recipes.chosen_line")


@pytest.fixture
def chooser(monkeypatch):
    """Chooses what is put into it, and notes what it was asked; what it really chooses is tested with choose_depth."""
    asked, answers = [], ["2"]

    def choose(model, train, candidates, samples, cache, *rest, loss=None, made=None):
        asked.append({"cache": cache, "loss": loss, "made": made})
        report = DepthReport(
            answers[-1], (), "Replace the output layer only.", "the probe says so", "accuracy", 0.5, 48, 10
        )
        return Depth(report, None, {})

    monkeypatch.setattr(module, "measured", choose)
    choose.asked, choose.answers = asked, answers
    return choose


def test_the_line_is_chosen_frozen_cached_and_said(tmp_path, chooser, capsys):
    model = mlp()
    result = fit(model, freeze="auto", epochs=2, out=tmp_path)
    assert "freeze='auto': frozen through '2': the probe says so\nReplace the output" in capsys.readouterr().err
    assert not model[0].weight.requires_grad
    assert model[3].weight.requires_grad
    assert result.cache.computed == 48
    assert chooser.asked[0]["cache"].root == tmp_path / "cache"
    reference = mlp()
    fit(reference, freeze="2", epochs=2, cache=False)
    assert torch.allclose(model[7].weight, reference[7].weight, atol=1e-6)


def test_a_resumed_run_keeps_its_line_and_measures_nothing(tmp_path, chooser):
    fit(mlp(), freeze="auto", epochs=2, out=tmp_path)
    chooser.answers.append("5")  # it would choose another one now
    model = mlp()
    fit(model, freeze="auto", epochs=3, out=tmp_path, resume=tmp_path)
    assert len(chooser.asked) == 1
    assert model[3].weight.requires_grad
    assert json.loads((tmp_path / "checkpoint.json").read_text())["settings"]["frozen through"] == "2"


def test_where_everything_should_train_nothing_is_frozen_or_thawed(chooser):
    chooser.answers.append(None)
    model = mlp()
    result = fit(model, val=data(20), freeze="auto", thaw="plateau", epochs=2, cache=False)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert len(result.phases) == 1
    result = fit(mlp(), freeze="auto", thaw={2: "3"}, cache=False, epochs=3)
    assert len(result.phases) == 1


def test_a_chosen_line_is_thawed_on_a_plateau(tmp_path, chooser):
    result = fit(mlp(), val=data(20), freeze="auto", lr=1e-9, epochs=6, out=tmp_path,
                 thaw=fl.ThawSchedule("plateau", patience=1))  # fmt: skip
    assert [phase.change for phase in result.phases][:2] == ["", "the whole model thawed"]


def test_features_have_no_line_to_choose(tmp_path):
    model = mlp()
    fl.freeze(model, through="2")
    split = fl.split(model, data().tensors[0][:4])
    cached = fl.FeatureCache(tmp_path).fill(split, data(), progress=False)
    with pytest.raises(fl.DataError, match="A line is chosen on the data itself"):
        fit(split.head, cached, freeze="auto")


def test_another_line_is_left_as_it_is():
    assert chosen_line("layer1", None, None, None, 1) == ("layer1", None)
    assert chosen_line(None, None, None, None, 1) == (None, None)


def test_thaws_of_layers_that_train_already_are_left_out_and_said(chooser, capsys):
    result = fit(mlp(), freeze="auto", thaw={2: "5", 3: None}, epochs=4, cache=False)
    assert [(phase.first_epoch, phase.change) for phase in result.phases] == [(1, ""), (3, "the whole model thawed")]
    assert "these layers train already: 5" in capsys.readouterr().err
    schedule = fl.ThawSchedule("plateau", layers=["5", None], patience=1)
    chooser.answers.append("3")
    result = fit(mlp(), val=data(20), freeze="auto", thaw=schedule, lr=1e-9, epochs=5, cache=False, progress=True)
    assert "plan: phase 2, by the rule: the whole model thawed" in capsys.readouterr().err


WRONG = {
    "an unknown layer": ({"thaw": {2: "nowhere"}}, fl.LayerNotFound, "nowhere"),
    "beyond the run": ({"thaw": {9: "3"}}, fl.DataError, "goes beyond the run"),
    "no validation data": ({"thaw": "plateau"}, fl.DataError, "A plateau is seen on validation data"),
    "the output layer": ({"thaw": {2: "7"}}, fl.DataError, "where nothing changes"),
    "a loss": ({"loss": "mse"}, fl.DataError, "different shapes"),
    "a label": ({"train": torch.utils.data.TensorDataset(data().tensors[0], data().tensors[1] + 5)}, fl.DataError,
                "outside of the range"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_needs_no_scores_is_refused_before_they_are_computed(chooser, name):
    options, kind, text = WRONG[name]
    with pytest.raises(kind, match=text):
        fit(mlp(), freeze="auto", epochs=3, cache=False, **options)
    assert chooser.asked == []


def test_whole_numbers_are_a_regression_where_the_loss_compares_numbers(tmp_path):
    inputs = data(200).tensors[0]
    numbers = torch.utils.data.TensorDataset(inputs, (1.5 * inputs[:, :1]).round().clamp(-1, 1).long())
    model = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    found = [measured(model, numbers, None, 200, fl.FeatureCache(tmp_path / str(loss)), 1, 32, 0, 0, False, loss=loss)
             for loss in (None, "mse", nn.L1Loss())]  # fmt: skip
    assert [depth.targets.kind for depth in found] == ["classes", "numbers", "numbers"]


def test_fit_passes_its_loss_and_how_rows_are_made(tmp_path, chooser):
    fit(mlp(), freeze="auto", epochs=1, out=tmp_path, loss="cross_entropy", storage="float16")
    (asked,) = chooser.asked
    assert asked["loss"] == "cross_entropy"
    assert (asked["made"].views, asked["made"].collate_fn, asked["made"].storage) == (None, None, "float16")


def test_a_run_that_chose_no_line_is_not_resumed_with_auto(tmp_path, chooser):
    fit(mlp(), freeze="2", epochs=1, out=tmp_path)
    with pytest.raises(fl.DataError, match="did not choose its frost line") as error:
        fit(mlp(), freeze="auto", epochs=2, out=tmp_path, resume=tmp_path)
    assert "pass the freeze= that the run began with" in error.value.do
    fit(mlp(), freeze="auto", epochs=1, out=tmp_path, overwrite=True)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(mlp(), freeze="2", epochs=2, out=tmp_path, resume=tmp_path)
    assert "pass freeze='auto'" in error.value.do


def test_another_freeze_of_a_resumed_run_is_said_as_such(tmp_path):
    fit(mlp(), freeze="2", epochs=1, out=tmp_path)
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        fit(mlp(), freeze="5", epochs=2, out=tmp_path, resume=tmp_path)
    assert "4 of 10 parameters, the last is '1.bias'" in error.value.received
    assert "freeze what that run had frozen when it began" in error.value.do


def test_the_real_chooser_answers(tmp_path):
    model = mlp()
    result = fit(model, data(200), freeze="auto", epochs=1, out=tmp_path)
    assert len(result.history) == 1


def test_a_line_is_not_chosen_in_a_model_that_is_partly_frozen(chooser):
    model = mlp()
    fl.freeze(model, through="2")
    with pytest.raises(fl.DataError, match="A part of the model is frozen already") as error:
        fit(model, freeze="auto", cache=False)
    assert "thaw(model, all=True)" in error.value.do
    assert chooser.asked == []
