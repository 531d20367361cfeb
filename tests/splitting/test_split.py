import typing
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

import frostline as fl
from helpers_splitting import FORWARDS, D, Net, Out, check, unanswered, x


@pytest.mark.parametrize("name", FORWARDS)
def test_every_way_to_write_forward_splits_exactly(name):
    model = Net(FORWARDS[name])
    split = check(model, x(4))
    for training in (False, True):
        model.train(training)
        split.head.train(training)
        batch = x(7)
        torch.manual_seed(1)
        expected = model(batch)
        features = tuple(feature.contiguous() for feature in split.extract(batch))
        torch.manual_seed(1)
        found = split.head(*features)
        _assert_same(found, expected)


def _assert_same(found, expected):
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            _assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            _assert_same(a, b)
    elif isinstance(expected, Out):
        _assert_same((found.logits, found.extra), (expected.logits, expected.extra))
    else:
        assert found == expected


def test_what_follows_from_the_place_in_the_batch_is_no_feature():
    model = Net(lambda m, x: m.high(m.low(x))[torch.arange(x.shape[0]), torch.arange(x.shape[0]) % 2])
    split = check(model, x(4), names=["low"])
    batch, order = x(6), torch.tensor([4, 0, 5])
    (features,) = split.extract(batch)
    assert torch.equal(split.head(features[order]), model(batch[order]))


@pytest.mark.parametrize("structure", ["tuple", "mapping"])
def test_inputs_may_be_tuples_and_mappings(structure):
    model = Net(lambda m, a, mask: m.high(m.low(a)) * mask)
    batch = (x(4), torch.rand(4, D)) if structure == "tuple" else {"a": x(4), "mask": torch.rand(4, D)}
    check(model, batch, names=["low", "input.1" if structure == "tuple" else "input.mask"])


REFUSED = {
    "a trainable value steers": (
        Net(lambda m, x: h if (h := m.high(unanswered(m, x))).sum() > 0 else x),
        fl.SplitError, "depends on trainable weights is handed to Python",
    ),
    "a trainable temperature": (
        Net(lambda m, x: m.low(x) * float(m.high.bias[0])),
        fl.SplitError, "depends on trainable weights is handed to Python",
    ),
    "numpy on the frozen side": (
        Net(lambda m, x: m.high(m.low(torch.from_numpy(unanswered(m, x).numpy() * 2)))),
        fl.NotCacheable, "computes outside of torch",
    ),
    "a number in the output that follows the batch": (
        Net(lambda m, x: (m.high(unanswered(m, x)), x.shape[0])),
        fl.SplitError, "cannot be generalised",
    ),
    "a size that only looks linear": (
        Net(lambda m, x: m.high(unanswered(m, x)).narrow(0, 0, min(8, x.shape[0]))),
        fl.SplitError, "in another way for a batch of",
    ),
    "sizes that depend on values": (
        Net(lambda m, x: m.high(unanswered(m, x))[: int((x > 0).sum()) % 2 + 1]),
        fl.SplitError, "another path|cannot be generalised",
    ),
    "a value of the batch as a number": (
        Net(lambda m, x: m.high(unanswered(m, x)) * unanswered(m, x).abs().max().item()),
        fl.SplitError, "another path|cannot be generalised",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_split_is_refused(name):
    model, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text) as error:
        fl.split(model, x(4))
    assert all((error.value.what, error.value.where, error.value.received, error.value.do))


MADE_AGAIN = {
    "a statistic of the batch": lambda m, x: m.high(m.low(x)) * m.low(x).mean(),
    "a matrix of pairs": lambda m, x: m.high(m.low(x)) @ (h := m.low(x)).t() + h @ h.t(),
    "a batch that is centred": lambda m, x: m.high((h := m.low(x)) - h.mean(0)),
}


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_depends_on_the_whole_batch_is_computed_in_the_head(name):
    model = Net(MADE_AGAIN[name])
    split = check(model, x(4))
    assert all(not tensor.shared for tensor in split.frontier)
    for count in (1, 2, 7):
        batch = x(count)
        assert torch.equal(split.head(*split.extract(batch)), model(batch))
    assert any("computed in the head" in note for note in split.explain().notes)


def test_two_samples_are_enough():
    check(Net(FORWARDS["residual"]), x(2))


def test_ordered_dicts_and_named_children_survive():
    model = nn.Sequential(OrderedDict(a=nn.Linear(D, D), b=nn.ReLU(inplace=True), c=nn.Linear(D, 3)))
    fl.freeze(model, through="a")
    split = check(model, x(4), names=["b"])
    assert split.recipe["mode"] == "inference"


class Caching(nn.Module):
    """Keeps a table that follows from its weight, in inference mode: timm's LeViT and EfficientFormer do."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.table = nn.Parameter(torch.randn(D)), {}

    def train(self, mode: bool = True) -> nn.Module:
        self.table.clear()
        return super().train(mode)

    def forward(self, x):
        if self.training:
            return x + self.bias.exp()
        if "exp" not in self.table:
            self.table["exp"] = self.bias.exp()
        return x + self.table["exp"]


@pytest.mark.parametrize("is_mixed", [False, True])
def test_tables_that_a_model_keeps_are_neither_reused_nor_left_behind(is_mixed):
    model = Net(lambda m, x: m.high(m.low(x)), high=Caching())
    if is_mixed:
        model.high.low = model.low
        model._forward = lambda m, x: m.high(m.high.low(x))
    model.eval()
    expected = model(x := torch.randn(5, D))
    model.high.table.clear()
    split = check(model, x)
    assert model.high.table == {}
    assert torch.equal(model(x), expected)
    with torch.no_grad():
        model.high.bias.mul_(2)
    model.train()
    model.eval()
    assert torch.equal(split.head(*split.extract(x)), model(x))


class Averaging(nn.Linear):
    """Replaces its buffer in forward."""

    def __init__(self) -> None:
        super().__init__(D, D)
        self.register_buffer("mean", torch.zeros(D))

    def forward(self, x):
        y = super().forward(x)
        if self.training:
            self.mean = self.mean * 0.9 + y.detach().mean(0) * 0.1
        return y - self.mean


def test_a_buffer_that_a_trainable_module_replaces_is_its_own_affair():
    model = Net(lambda m, x: m.high(m.low(x)), high=Averaging())
    split = check(model, x(4), names=["low"])
    model.train()
    split.head.train()
    split.head(*split.extract(x(4)))
    assert model.high.mean.abs().sum() > 0
    assert split.head.high is model.high


def test_a_packed_sequence_is_refused_in_our_words():
    def forward(m, x):
        packed = nn.utils.rnn.pack_padded_sequence(
            unanswered(m, x).view(-1, 2, D // 2), [2] * x.shape[0], batch_first=True
        )
        return nn.utils.rnn.pad_packed_sequence(m.high(packed)[0], batch_first=True)[0]

    with pytest.raises(fl.FrostlineError):
        fl.split(Net(forward, high=nn.LSTM(D // 2, 3, batch_first=True)), x(4))


def test_weights_that_are_standardised_are_no_statistics_of_the_batch():
    class Standardised(nn.Linear):
        def forward(self, x):
            weight = nn.functional.batch_norm(self.weight[None], None, None, training=True)
            return nn.functional.linear(x, weight[0], self.bias)

    model = nn.Sequential(Standardised(D, D), Standardised(D, D))
    fl.freeze(model, through="0")
    check(model, x(4), names=["0"])
    model.insert(0, nn.Linear(D, D).requires_grad_(False))
    model[1].forward = lambda x: nn.functional.batch_norm(x, None, None, training=True)
    with pytest.raises(fl.NotCacheable, match="statistics of the batch"):
        fl.split(model, x(4))


@pytest.mark.parametrize("is_frozen_by_flag", [True, False], ids=["by flag", "by freeze"])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_normalises_each_sample_by_itself(affine, is_frozen_by_flag):
    norms = [nn.InstanceNorm1d(2, affine=affine) for _ in range(2)]
    low = nn.Sequential(nn.Conv1d(2, 2, 3), norms[0], nn.ReLU())
    model = nn.Sequential(low, nn.Conv1d(2, 2, 3), norms[1], nn.Flatten(), nn.LazyLinear(3))
    model(x(4)[:, None].expand(4, 2, D))
    low.requires_grad_(False) if is_frozen_by_flag else fl.freeze(model, modules=[low])
    check(model, torch.randn(4, 2, D))
    norms[0].track_running_stats, norms[0].running_mean, norms[0].running_var = True, torch.zeros(2), torch.ones(2)
    if is_frozen_by_flag and affine:
        with pytest.raises(fl.NotCacheable, match="statistics of the batch"):
            fl.split(model, torch.randn(4, 2, D))


def test_a_named_tuple_reaches_a_trainable_layer():
    class Pair(typing.NamedTuple):
        low: torch.Tensor
        high: torch.Tensor

    class Taking(nn.Linear):
        def forward(self, pair):
            return super().forward(pair.low) + pair.high

    check(Net(lambda m, batch: m.taking(Pair(m.low(batch), m.high(batch))), taking=Taking(8, 8)), x(4))


def test_a_frozen_autograd_function_of_the_root_crosses_the_line():
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, batch):
            return batch.round()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    check(Net(lambda m, batch: m.high(Round.apply(m.low(batch)))), x(4), names=["apply_function"])


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
