import importlib
import json

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.selection_records import DepthReport
from frostline.recipes.chosen_line import chosen_line
from helpers_fit import D, data, fit, mlp

module = importlib.import_module("frostline.recipes.chosen_line")


@pytest.fixture
def chooser(monkeypatch):
    """Chooses what is put into it, and notes what it was asked; what it really chooses is tested with choose_depth."""
    asked, answers = [], ["2"]

    def choose(model, train, **options):
        asked.append(options)
        return DepthReport(
            answers[-1], (), "Replace the output layer only.", "the probe says so", "accuracy", 0.5, 48, 10
        )

    monkeypatch.setattr(module, "choose_depth", choose)
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
    with pytest.raises(fl.DataError, match="nothing changes"):
        fit(mlp(), freeze="auto", thaw={2: "3"}, cache=False)


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
    options = {"device": torch.device("cpu"), "cache": True, "out": None, "resume": None, "epochs": 1, "batch_size": 1,
               "num_workers": 0, "seed": 0, "progress": False}  # fmt: skip
    assert chosen_line("layer1", None, nn.Linear(D, 2), None, **options) == ("layer1", None)
    assert chosen_line(None, None, nn.Linear(D, 2), None, **options) == (None, None)


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
