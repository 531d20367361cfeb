import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.recording.omitted_noise import NoiseSource, add_quiet, quieted
from helpers_splitting import D, Net, check, two_dropouts, x


def test_noise_that_feeds_frozen_layers_is_named():
    model = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5), nn.Linear(D, D), nn.Linear(D, 2))
    for name in ("0", "2"):
        model.get_submodule(name).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="'1' draws random numbers and feeds frozen layers") as error:
        fl.split(model, x(4))
    assert "frostline.freeze" in error.value.do
    fl.freeze(model, modules=[model[1]])
    check(model, x(4))


def test_functional_noise_in_a_mixed_module_is_turned_off_and_said():
    model = Net(lambda m, x: m.high(m.mid(F.dropout(m.low(x), 0.5, m.training))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split = check(model, x(4), names=["mid"])
    assert any("inference mode" in note for note in split.explain().notes)


def test_only_the_dropout_that_feeds_frozen_layers_is_left_out():
    model = Net(two_dropouts, mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split = check(model, x(4), names=["mid"])
    split.head.train()
    features = split.extract(x(5))
    assert not torch.equal(split.head(*features), split.head(*features))


def test_noise_that_is_no_dropout_and_feeds_frozen_layers_is_refused():
    model = Net(lambda m, x: m.high(m.mid(m.low(x) + torch.randn(len(x), 1))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="feed frozen layers") as error:
        fl.split(model, x(4))
    assert "transform" in error.value.do


@pytest.mark.parametrize("drop", [
    lambda h, training: F.dropout(h, 0.5, training),
    lambda h, training: F.dropout(h, p=0.5, training=training),
    lambda h, training: torch.dropout(h, 0.5, training),
    lambda h, training: F.alpha_dropout(h, 0.5, training),
    lambda h, training: F.dropout(h, 0.5, training, inplace=True),
])  # fmt: skip
def test_every_form_of_dropout_can_be_left_out(drop):
    model = Net(lambda m, x: m.high(m.mid(drop(m.low(x), m.training))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    check(model, x(4), names=["mid"])


ROOT = Frame("", 0)
ONES = torch.ones(50, 8)


def has_noise(value):
    return not torch.equal(value, ONES)


@pytest.mark.parametrize("drop", [
    lambda h, on: F.dropout(h, 0.5, on), lambda h, on: F.dropout(h, p=0.5, training=on),
    lambda h, on: F.dropout(h.clone(), 0.5, on, True), lambda h, on: F.dropout(h), lambda h, on: F.dropout(h, 0.5),
])  # fmt: skip
@pytest.mark.parametrize("nth", [0, 1, None])
def test_of_two_dropouts_the_one_that_is_named_is_quiet_in_every_call(drop, nth):
    model = Net(lambda m, batch: (drop(batch, m.training), drop(batch, m.training)))
    quiet = {} if nth is None else {Point(ROOT, "dropout", nth): "told"}
    with quieted(model, quiet):
        for _ in range(3):
            assert [has_noise(value) for value in model(ONES)] == [nth != 0, nth != 1]
    assert [has_noise(value) for value in model(ONES)] == [True, True]
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("nth", [0, 1])
def test_of_two_calls_of_a_module_the_one_that_is_named_is_quiet(nth):
    model = Net(lambda m, batch: (m.drop(batch), m.drop(batch)), drop=nn.Dropout(0.5))
    with quieted(model, {Frame("drop", nth): "told"}):
        for _ in range(2):
            assert [has_noise(value) for value in model(ONES)] == [nth != 0, nth != 1]
    assert model.drop.training
    assert all(map(has_noise, model(ONES)))


def test_in_inference_mode_there_is_nothing_to_quiet():
    model = Net(lambda m, batch: F.dropout(batch, 0.5, True))
    with quieted(model.eval(), {Point(ROOT, "dropout", 0): "told"}):
        assert has_noise(model(ONES))


def test_an_error_inside_of_a_quiet_call_puts_the_mode_back_and_ends_the_listening():
    class Failing(nn.Dropout):
        def forward(self, batch):
            assert not self.training
            raise KeyError("mine")

    model = Net(lambda m, batch: m.drop(batch), drop=Failing(0.5))
    with quieted(model, {Frame("drop", 0): "told"}):
        with pytest.raises(KeyError, match="mine"):
            model(ONES)
        assert model.drop.training
        assert has_noise(F.dropout(ONES, 0.5))
        with pytest.raises(KeyError, match="mine"):
            model(ONES)


def test_modules_that_are_not_registered_run_as_they_are():
    hidden = [nn.Dropout(0.5)]
    model = Net(lambda m, batch: hidden[0](batch))
    with quieted(model, {Frame("drop", 0): "told"}):
        assert has_noise(model(ONES))


def test_noise_that_cannot_be_left_out_is_named():
    quiet = add_quiet({}, NoiseSource(Frame("drop", 0), "block", "model.py:3"))
    assert quiet == {Frame("drop", 0): "model.py:3 runs in inference mode: it feeds frozen layers"}
    both = add_quiet(quiet, NoiseSource(Frame("drop", 1), "block", "model.py:4"))
    assert list(both) == [Frame("drop", 0), Frame("drop", 1)]
    with pytest.raises(fl.NotCacheable, match="even in inference mode") as error:
        add_quiet(quiet, NoiseSource(Frame("drop", 0), "", "model.py:3"))
    assert error.value.received == "noise inside of the model that feeds frozen layers"
    with pytest.raises(fl.NotCacheable, match="feed frozen layers") as error:
        add_quiet({}, NoiseSource(None, "", "model.py:3"))
    assert error.value.where == "the model, model.py:3"
    with pytest.raises(fl.NotCacheable) as error:
        add_quiet({}, NoiseSource(None, "block", "model.py:3"))
    assert error.value.where == "block, model.py:3"
