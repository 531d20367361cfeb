import math

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.diagnosis.monitor import evidence
from frostline.diagnosis.monitor.layers import find_layers
from frostline.diagnosis.rules.input_scale import oddness
from helpers_health import mlp, record, sgd

MODEL = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
FOUND = find_layers(MODEL)
ORDER = {"0": 0, "1": 1, "2": 2}


def test_layers_in_the_order_in_which_they_ran():
    found = evidence.layers_that_ran(FOUND, {"2": 0, "0": 1})
    assert [(layer.name, layer.is_output) for layer in found] == [("2", False), ("0", True), ("1", False)]
    found = evidence.layers_that_ran(FOUND, ORDER, {"0", "1"})
    assert [layer.name for layer in found if layer.is_output] == ["0", "2"]


def test_optimizers():
    groups = [{"params": MODEL[0].parameters(), "lr": 0.1}, {"params": MODEL[2].parameters(), "lr": torch.tensor(0.5)}]
    sgd = torch.optim.SGD(groups, momentum=0.8)
    assert evidence.facts_of_optimizer(sgd).lr == 0.5
    assert evidence.facts_of_optimizer(sgd).momentum == 0.8
    assert not evidence.facts_of_optimizer(sgd).is_scheduled
    assert not evidence.facts_of_optimizer(sgd).is_scale_free
    adam = torch.optim.NAdam(MODEL.parameters())
    torch.optim.lr_scheduler.StepLR(adam, 3)
    assert evidence.facts_of_optimizer(adam).is_scheduled
    assert evidence.facts_of_optimizer(adam).is_scale_free
    assert evidence.facts_of_optimizer(None).lr is None


def test_inputs_by_feature():
    x = torch.randn(500, 3) * torch.tensor([1.0, 100.0, 1.0]) + torch.tensor([0.0, 0.0, 50.0])
    facts = evidence.facts_of_input(x, FOUND, ORDER)
    assert facts.widest == pytest.approx(100, rel=0.2)
    assert facts.offset == pytest.approx(50, rel=0.2)
    assert facts.unevenness == pytest.approx(100, rel=0.2)
    assert not facts.is_normalised


def test_constant_columns_and_nan_do_not_count():
    x = torch.randn(500, 3)
    x[:, 1] = 40.0
    x[3, 0] = math.nan
    facts = evidence.facts_of_input(x, FOUND, ORDER)
    assert facts.unevenness == pytest.approx(1.0, abs=0.2)
    assert facts.offset < 1.0


def test_images_by_channel_and_what_has_no_scale():
    image = torch.rand(8, 3, 5, 5) * torch.tensor([1.0, 255.0, 1.0])[:, None, None]
    assert evidence.facts_of_input(image, FOUND, ORDER).unevenness == pytest.approx(255, rel=0.3)
    for odd in (torch.ones(3, 4).long(), torch.ones(5), torch.ones(1, 4), torch.ones(4, 4)):
        assert evidence.facts_of_input(odd, FOUND, ORDER) is None
    normed = find_layers(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))
    assert evidence.facts_of_input(torch.randn(9, 3), normed, {"0": 0, "1": 1}).is_normalised


def test_what_is_missing():
    def missing(*records, has_optimizer=True):
        return " ".join(evidence.what_is_missing(records, has_optimizer=has_optimizer, expects_outputs=True))

    assert "optimizer's step() was not called" in missing()
    assert "monitor.step(loss)" in missing(has_optimizer=False)
    assert "no gradients were seen" in missing(record(fc={"mean": 1.0}))
    assert "no outputs were seen" in missing(record(fc={"gradient_norm": 1.0}))
    assert missing(record(fc={"gradient_norm": 1.0, "mean": 0.0})) == ""


def test_a_feature_that_hardly_varies_is_not_far_off():
    x = torch.randn(500, 5)
    x[:, 0] = 0.02 * x[:, 0] - 0.8  # a pixel of the border
    assert evidence.facts_of_input(x, FOUND, ORDER).offset < 1.5


def test_numbers_of_a_table_are_exact():
    x = torch.tensor([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    facts = evidence.facts_of_input(x, FOUND, ORDER)
    assert (facts.mean, facts.largest) == (9.0, 30.0)
    assert facts.deviation == pytest.approx(float(x.std(correction=0)))
    assert facts.widest == pytest.approx(500**0.5)
    assert facts.unevenness == pytest.approx(10 / 1)  # the lower of two is the median
    assert facts.offset == pytest.approx(2.0)
    assert facts.outlier == pytest.approx(30 / float(x.flatten().quantile(0.99)))
    assert evidence.facts_of_input(x, FOUND, ORDER, outlier=7.0).outlier == 7.0


def test_sequences_by_feature_and_the_first_layer_that_ran():
    sequence = torch.randn(4, 6, 2) * torch.tensor([1.0, 50.0])
    assert evidence.facts_of_input(sequence, FOUND, ORDER).unevenness == pytest.approx(50, rel=0.6)
    normed = find_layers(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    x = torch.randn(9, 3)
    assert not evidence.facts_of_input(x, normed, {"0": 0, "1": 1}).is_normalised
    assert evidence.facts_of_input(x, normed, {"0": 1, "1": 0}).is_normalised
    assert not evidence.facts_of_input(x, normed, {}).is_normalised
    assert evidence.facts_of_input(x.to_dense()[:2], normed, {}) is not None
    assert evidence.facts_of_input(x[:1], normed, {}) is None


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad", "Adadelta", "Rprop", "SGD", "ASGD"])
def test_optimizers_whose_steps_do_not_follow_the_size_of_gradients(name):
    made = getattr(torch.optim, name)(MODEL.parameters(), lr=0.1)
    assert evidence.facts_of_optimizer(made).is_scale_free is (name not in ("SGD", "ASGD"))


def test_an_optimizer_without_rate_or_momentum():
    class Own:
        param_groups = ({"params": [], "lr": None}, {"params": []})

    facts = evidence.facts_of_optimizer(Own())
    assert (facts.lr, facts.momentum, facts.is_scheduled) == (None, None, False)


def test_inputs_of_a_model_that_scales_them_are_not_judged():
    model = mlp()
    inputs = 1000 * torch.randn(32, 12)
    assert "FL501" in codes(model, inputs)
    fl.remedies.standardize_inputs(model, [(inputs, torch.zeros(32))])
    assert "FL501" not in codes(model, inputs)


def codes(model, inputs):
    optimizer = sgd(model)
    with fl.Monitor(model, optimizer, every=1) as monitor:
        for _ in range(12):
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step(loss)
    return {finding.code for finding in monitor.diagnosis.findings}


def test_inputs_of_several_batches_are_taken_together():
    seen = evidence.SeenInputs(FOUND, MODEL)
    assert seen.facts(ORDER) is None
    for given in (torch.full((4, 3), 9.0) + torch.rand(4, 3), -9.0 - torch.rand(4, 3), torch.ones(4, 5), None):
        seen.add(given)
    assert abs(seen.facts(ORDER).offset) < 1.0  # of one of them 30


def test_one_hot_rows_are_not_small_though_each_feature_mostly_is_zero():
    facts = evidence.facts_of_input(torch.eye(400), (), {})
    assert facts.widest == pytest.approx(0.05)
    assert facts.row_size == pytest.approx(1.0)
    assert oddness(facts)[0] == 0.0
