import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(0)
    x = torch.randn(300, 6)
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())


@pytest.fixture(scope="module")
def trained(data):
    model = network(0)
    fl.fit(model, data, epochs=60, lr=1e-2, cache=False, monitor=False, progress=False)
    return model


def rank(models, data, tmp_path):
    return fl.rank_models(models, data, cache=tmp_path, progress=False)


def test_a_model_that_knows_the_task_comes_first_with_its_interval(trained, data, tmp_path):
    bad = network(1)
    with torch.no_grad():
        bad[0].weight[:, :2] = 0  # sees nothing of what decides
    ranking = rank({"bad": bad, "good": trained}, data, tmp_path)
    assert ranking.best == "good"
    first, second = ranking.table
    assert (first.name, second.name) == ("good", "bad")
    assert first.low < first.score < first.high
    assert second.behind[1] > 0
    assert not second.is_tied
    assert ranking.advice.startswith("Start from good")
    assert first.report.table


def test_models_that_are_alike_cannot_be_told_apart(trained, data, tmp_path):
    other = network(0)
    other.load_state_dict(trained.state_dict())
    ranking = rank([trained, other], data, tmp_path)
    assert ranking.best is None
    assert [one.name for one in ranking.table] == ["Sequential 1", "Sequential 2"]
    assert ranking.table[1].is_tied
    assert ranking.table[1].behind == (0.0, 0.0, 0.0)
    assert "cannot be separated" in ranking.advice


def test_one_model_is_no_ranking(trained, data, tmp_path):
    with pytest.raises(fl.DataError, match="A ranking needs two models or more"):
        rank([trained], data, tmp_path)


def test_models_are_ranked_on_the_rows_that_a_training_would_load(trained, data, tmp_path):
    options = {"storage": "int8", "frozen_pass": "bf16", "views": 2, "cache": tmp_path, "progress": False}
    ranking = fl.rank_models({"new": network(1), "good": trained}, data, **options)
    assert ranking.table[0].name == "good"
    alone = fl.choose_depth(trained, data, **options)
    assert [row.logme for row in ranking.table[0].report.table] == [row.logme for row in alone.table]
    with pytest.raises(fl.DataError, match="not a storage type") as error:
        fl.rank_models([trained, network(1)], data, storage="int4")
    assert error.value.where == "rank_models(storage=...)"
