import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.refusals import check_frontier, check_repeatable
from helpers_splitting import FORWARDS, D, Net, x


def test_nothing_or_everything_frozen_is_said():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D))
    with pytest.raises(fl.SplitError, match="Nothing is frozen"):
        fl.split(model, x(4))
    fl.freeze(model)
    with pytest.raises(fl.SplitError, match="Everything is frozen"):
        fl.split(model, x(4))


def test_tied_weights_that_make_everything_train_are_named():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.body, self.out = nn.Embedding(9, D), nn.Linear(D, D), nn.Linear(D, 9, bias=False)
            self.out.weight = self.embedding.weight

        def forward(self, ids):
            return self.out(self.body(self.embedding(ids)))

    model = Tied()
    fl.freeze(model, modules=[model.body])
    with pytest.raises(fl.SplitError, match="Everything trains from the input on") as error:
        fl.split(model, torch.randint(0, 9, (4, 3)))
    assert "tied to 'out.weight'" in error.value.where


def test_examples_that_do_not_fit_are_refused():
    model = Net(FORWARDS["plain"])
    with pytest.raises(fl.DataError, match="example batch is too small"):
        fl.split(model, x(1))
    with pytest.raises(fl.DataError, match="another device"):
        fl.split(model, torch.empty(4, D, device="meta"))
    with pytest.raises(fl.DataError, match="cannot be called with these inputs"):
        fl.split(model, {"z": x(4)})
    with pytest.raises(fl.DataError, match="Cannot tell the batch size"):
        fl.split(model, ("text", 3))


def test_a_refused_model_keeps_its_buffers_and_modes():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.low = nn.Linear(D, D)

        def forward(self, x):
            if not self.training:
                self.seen = self.seen + 1
            return self.low(x)

    model = nn.Sequential(Counting(), nn.Linear(D, D))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="changes its own state"):
        fl.split(model, x(4))
    assert model[0].seen == 0
    assert model.training


def test_features_and_modes_that_are_none_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    x = torch.randn(3, 4)
    split = fl.split(model, x)
    features = split.extract(x)
    assert split.verify(x, features, modes=("eval",))
    for wrong in ((), (*features, *features), features[0].to_sparse(), 3, [None], (features[0].to_sparse(),)):
        with pytest.raises(fl.DataError, match="not the features of this split"):
            split.verify(x, wrong)
        with pytest.raises(fl.DataError, match="not the features of this split"):
            split.prove(x, wrong)
    for wrong in ("eval", (), ("test",), ("train", "test")):
        with pytest.raises(fl.DataError, match="A model has two modes"):
            split.verify(x, features, modes=wrong)


def repeated(*results, model=None):
    """What is said of a frozen part that gives these results, one after the other."""
    given = iter(results)
    return check_repeatable(model or nn.BatchNorm1d(2), lambda: next(given), ["low", "table"])


def test_features_that_are_the_same_twice_are_given_with_the_time_they_took():
    nan = torch.tensor([float("nan"), 1.0])
    (features, elapsed_s) = repeated((nan, torch.ones(1)), (nan.clone(), torch.ones(1)))
    assert torch.equal(features[1], torch.ones(1))
    assert 0 <= elapsed_s < 60


def test_features_that_differ_are_named_with_their_difference():
    with pytest.raises(fl.NotCacheable, match="Cannot cache the output of 'table'") as error:
        repeated((torch.ones(1), torch.tensor([1.0, 3.0])), (torch.ones(1), torch.tensor([1.0, 2.5])))
    assert error.value.received == "largest difference 5.0e-01, allowed 0"


def test_a_buffer_that_moves_is_named_and_one_that_is_nan_stands_still():
    model = nn.BatchNorm1d(2)
    model.running_var.fill_(float("nan"))
    same = (torch.ones(1), torch.ones(1))

    def moving():
        model.running_mean.add_(1)
        return same

    assert check_repeatable(model, lambda: same, ["low", "table"])[0] is same
    with pytest.raises(fl.NotCacheable, match="the buffer 'running_mean' moves"):
        check_repeatable(model, moving, ["low", "table"])

    def growing():
        model.register_buffer("new", torch.ones(1))
        return same

    assert check_repeatable(model, growing, ["low", "table"])[0] is same


def test_two_samples_are_an_example():
    assert fl.split(Net(FORWARDS["plain"]), x(2)).frontier


def test_a_frontier_of_tables_and_inputs_alone_is_none():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    kinds = {"low": (False, "low"), "table": (True, "table"), "input.x": (False, "input.x")}
    made = {key: fl.FrontierTensor(name, (2,), torch.float32, 8, shared) for key, (shared, name) in kinds.items()}
    assert check_frontier(model, (made["table"], made["low"])) is None
    with pytest.raises(fl.SplitError, match="Everything trains from the input on") as error:
        check_frontier(model, (made["table"], made["input.x"]))
    assert error.value.received == "a frontier of table, input.x"
    assert error.value.where == "0.weight is trainable"


def test_one_layer_has_no_line_and_is_not_told_to_freeze():
    for model in (nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2))):
        with pytest.raises(fl.SplitError, match="Nothing is frozen") as error:
            fl.split(model, torch.randn(3, 4))
        assert "several layers" in error.value.do
