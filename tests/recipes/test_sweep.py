"""Sweeps of real stored rows: each head as `fit` trains it alone, and the best one in the model."""

import copy
import json
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.core.restore import generator_states
from helpers_sweep import C, D, H, N, cached, model, rows, sweep

# Of losses and weights, relative: float32 over a few epochs.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
GIVEN = [
    {"lr": 0.1, "optimizer": "sgd"}, {"lr": 0.03}, {"lr": 0.03, "weight_decay": 0.5, "optimizer": "adam"},
    {"lr": 0.01, "optimizer": "rmsprop"},
]  # fmt: skip


def linear():
    return model()


def noisy():
    return model(nn.Dropout(0.4), nn.Linear(H, C))


def deep():
    return model(nn.Linear(H, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, C))


def normed():
    return model(nn.Linear(H, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))


class TwoTensors(nn.Module):
    """Two frozen tensors reach the trainable part, which has tied weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.left, self.right = nn.Linear(D, H), nn.Linear(D, H)
        self.mix, self.out = nn.Linear(H, H), nn.Linear(H, C)
        self.again = self.mix
        for layer in (self.left, self.right):
            layer.requires_grad_(False)

    def forward(self, x):
        return self.out(self.mix(self.left(x).relu()) + self.again(self.right(x)))


class Looping(nn.Module):
    """As many steps as the batch has rows: no graph holds, the head runs the model's own forward."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body, self.out = nn.Linear(D, H), nn.Linear(H, C)
        self.body.requires_grad_(False)

    def forward(self, x):
        found = self.body(x)
        return torch.stack([self.out(found[at]) for at in range(len(x))])


HEADS = {
    "linear": (linear, "flat"), "noisy": (noisy, "flat"), "deep": (deep, "stacked"), "normed": (normed, "looped"),
    "two tensors": (TwoTensors, "stacked"), "own forward": (Looping, "looped"),
}  # fmt: skip


def fitted(make, given, train, val, **options):
    """The history and the weights of one setting, trained by `fit`."""
    own = make()
    split, _ = cached(own)

    def optimizer(parameters):
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
                 "rmsprop": torch.optim.RMSprop}  # fmt: skip
        named = given.get("optimizer", "adamw")
        more = {"momentum": 0.9} if named == "sgd" else {}
        more |= {"weight_decay": given["weight_decay"]} if "weight_decay" in given else {}
        return kinds[named](parameters, lr=given["lr"], **more)

    done = fl.fit(split.head, train, val, optimizer=optimizer, monitor=False, progress=False, **options)
    return done, own


@pytest.mark.parametrize("case", HEADS)
def test_every_head_is_the_one_that_fit_trains_alone(case):
    make, way = HEADS[case]
    own = make()
    split, data = cached(own)
    train, val = data.part(range(72)), data.part(range(72, N))
    options = {"epochs": 3, "batch_size": 16, "seed": 5}
    result = sweep(split.head, train, GIVEN, val=val, **options)
    assert {row.way for row in result.table} == {way}
    best = result.best.number
    for at, given in enumerate(GIVEN):
        done, alone = fitted(make, given, train, val, **options)
        for one, other in zip(result.history[at], done.history, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
            assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)
            assert one.val_metric == pytest.approx(other.val_metric, abs=0.05)
        if at == best:
            assert result.best.best_epoch == done.best_epoch
            for name, tensor in alone.state_dict().items():
                torch.testing.assert_close(own.state_dict()[name], tensor, **CLOSE)


def test_the_model_with_the_best_head_has_its_score():
    own = linear()
    split, data = cached(own)
    result = sweep(split.head, data, {"lr": [1e-4, 1e-2, 0.1]}, val=data, epochs=5)
    x_ND, y_N = rows()
    assert float((own.eval()(x_ND).argmax(1) == y_N).float().mean()) == pytest.approx(result.best.score)
    assert result.best is result.table[0]
    assert result.best.score == max(result.scores)
    assert list(result.scores) != sorted(result.scores)[::-1]
    assert json.loads(result.to_json())["metric"] == "accuracy"


def test_a_share_of_every_class_is_held_out():
    split, data = cached(linear())
    result = sweep(split.head, data, [{}], val_share=0.25)
    wanted = sum(round(0.25 * count) for count in data.targets.bincount().tolist())
    assert (result.samples, result.held_out) == (N - wanted, wanted)


@pytest.mark.parametrize("make", [linear, deep, normed, Looping], ids=["linear", "deep", "normed", "own forward"])
def test_nothing_else_of_the_model_or_the_process_moves(make):
    own = make()
    split, data = cached(own)
    own.train()
    for parameter in own.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in own.modules()]
    state = copy.deepcopy(own.state_dict())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = generator_states()
    sweep(split.head, data, GIVEN[:2], apply=False)
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.state_dict().items())
    assert str(generator_states()) == str(before)
    assert [module.training for module in own.modules()] == modes
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in own.parameters() if p.requires_grad)
    sweep(split.head, data, GIVEN[:2])
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in own.parameters() if p.requires_grad)
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    moved = {name for name, tensor in own.state_dict().items() if not torch.equal(tensor, state[name])}
    assert trained & moved
    assert not any(name.startswith(("0.", "body")) for name in moved)
    split.check_unchanged()
    split.head(*data.part(range(4)).loader(4).__iter__().__next__()[0])


def test_a_width_puts_a_hidden_layer_into_the_model():
    own = linear()
    split, data = cached(own)
    result = sweep(split.head, data, [{"lr": 1e-6}, {"width": 32, "lr": 0.03, "dropout": 0.1}], val=data, epochs=6)
    assert result.best.number == 1
    assert [type(layer) for layer in own[1]] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert "split the model again" in result.notes[0]
    x_ND, y_N = rows()
    assert float((own.eval()(x_ND).argmax(1) == y_N).float().mean()) == pytest.approx(result.best.score)
    again, same = cached(own)
    assert sweep(again.head, same, {"lr": [1e-3, 1e-2]}).best.way == "stacked"


def test_a_dropout_goes_into_the_heads_own_layers():
    own = noisy()
    split, data = cached(own)
    result = sweep(split.head, data, [{"dropout": 0.05, "lr": 0.03}, {"dropout": 0.9, "lr": 1e-6}], val=data, epochs=4)
    assert own[1].p == 0.05
    assert "the dropout of '1' is 0.05 now: split the model again" in result.notes[0]
    again, same = cached(own)
    fl.fit(again.head, same, epochs=1, progress=False)


def test_dropout_without_a_layer_is_told():
    own = linear()
    split, data = cached(own)
    result = sweep(split.head, data, [{"dropout": 0.5, "lr": 0.03}])
    assert "the model has no layer for it" in result.notes[0]
    assert [type(layer) for layer in own] == [nn.Sequential, nn.Linear]


def test_halving_stops_the_worse_heads():
    split, data = cached(linear())
    result = sweep(split.head, data, {"lr": [1e-6, 1e-5, 1e-2, 0.1]}, epochs=4, halving=2)
    assert sorted(row.epochs for row in result.table) == [1, 1, 2, 4]
    assert result.best.epochs == 4
    assert [row.outcome for row in result.table].count("stopped") == 3


def test_regression_and_losses_of_ones_own():
    x_ND, _ = rows()
    own = model(nn.Linear(H, 1))
    split, data = cached(own, x_ND[:, :1] * 2 + 1)
    result = sweep(split.head, data, {"lr": [1e-4, 0.03], "optimizer": ["adam"]}, loss="mse", epochs=8, metric="r2")
    assert result.best.number == 1
    assert result.best.way == "flat"
    assert result.metric == "r2"
    plain = sweep(split.head, data, {"lr": [1e-4, 0.03]}, loss=lambda output, target: F.l1_loss(output, target))
    assert plain.metric == "minus the loss"
    assert plain.best.score == -plain.best.val_loss


def test_a_head_that_diverges_is_last_and_the_others_go_on():
    split, data = cached(linear())
    result = sweep(split.head, data, [{"lr": 3e38, "optimizer": "sgd"}, {"lr": 0.01}], epochs=3)
    assert result.best.number == 1
    assert result.table[-1].outcome == "diverged"
    assert math.isnan(result.scores[0])
    own = linear()
    split, data = cached(own)
    state = copy.deepcopy(own.state_dict())
    with pytest.raises(fl.DataError, match="Every head diverged: no loss was finite"):
        sweep(split.head, data, [{"lr": 3e38, "optimizer": "sgd"}], epochs=3)
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.state_dict().items())


def test_a_module_of_ones_own_is_a_head():
    _, data = cached(linear())
    head = nn.Sequential(nn.Linear(H, C))
    before = head[0].weight.clone()
    result = sweep(head, data, {"lr": [1e-3, 0.1]})
    assert not torch.equal(head[0].weight, before)
    assert result.best.way == "flat"
    with pytest.raises(fl.DataError, match="no output layer that a hidden layer could stand before"):
        sweep(nn.Linear(H, C), data, [{"width": 4}])


@pytest.mark.parametrize(
    ("changed", "text"),
    [({"epochs": 0}, "epochs is not a whole number"), ({"halving": 1}, "halving is not a whole number of 2 or more"),
     ({"val_share": 1}, "val_share is not a finite number"), ({"apply": "yes"}, "apply is neither True nor False"),
     ({"loss": "x"}, "There is no loss named"), ({"metric": "x"}, "The metric 'x' is not usable"),
     ({"settings": []}, "A sweep needs at least one setting"), ({"head": "fc"}, "This is not a model"),
     ({"head": nn.ReLU()}, "The model has no parameters")],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_named(changed, text):
    split, data = cached(linear())
    options = {"head": split.head, "settings": [{}], **changed}
    with pytest.raises(fl.DataError, match=text):
        sweep(options.pop("head"), data, options.pop("settings"), **options)


def test_what_the_loss_raises_is_told_in_four_parts():
    split, data = cached(linear())
    with pytest.raises(fl.DataError, match="sweep stopped"):
        sweep(split.head, data, [{}, {"lr": 0.1}], loss=lambda output, target: output.sum() / len(target.missing))


def test_a_solved_head_competes_with_trained_ones():
    own = linear()
    split, data = cached(own)
    result = sweep(split.head, data, [{"optimizer": "probe"}, {"optimizer": "probe", "weight_decay": 10.0},
                                      {"lr": 1e-5}], val=data)  # fmt: skip
    assert result.best.number == 0
    assert (result.best.outcome, result.best.way, result.best.epochs) == ("solved", "closed form", 1)
    assert result.history[0][0].train_loss == pytest.approx(result.best.val_loss, rel=1e-5)
    x_ND, y_N = rows()
    assert float((own.eval()(x_ND).argmax(1) == y_N).float().mean()) == pytest.approx(result.best.score)
    only = sweep(split.head, data, [{"optimizer": "probe"}], apply=False)
    assert only.best.outcome == "solved"
