import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import frostline as fl

B, D = 5, 8


def check(model: nn.Module, example: Any, *, names: list[str] | None = None) -> fl.Split:
    """Split, then compare with the model on fresh data of another batch size, in both modes, to the bit."""
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    split = fl.split(model, example)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert modes == [module.training for module in model.modules()]
    if names is not None:
        assert [tensor.name for tensor in split.frontier] == names
    assert split.explain().verification.is_exact
    return split


class Net(nn.Module):
    """Frozen `low`, trainable `high`, and a forward that each test gives."""

    def __init__(self, forward, **parts: nn.Module) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(D, D), nn.Linear(D, D)
        for name, part in parts.items():
            self.add_module(name, part)
        self._forward = forward
        self.low.requires_grad_(False)

    def forward(self, *args, **kwargs):
        return self._forward(self, *args, **kwargs)


def x(count: int = B) -> Tensor:
    return torch.randn(count, D)


FORWARDS = {
    "plain": lambda m, x: m.high(m.low(x)),
    "residual": lambda m, x: (h := m.low(x)) + m.high(h),
    "two uses": lambda m, x: m.high(m.low(x)) * m.low(x).sigmoid(),
    "input reaches the head": lambda m, x: m.high(m.low(x)) + x,
    "in place on a trainable value": lambda m, x: m.high(m.low(x)).mul_(2).add_(1),
    "in place on a frozen value": lambda m, x: m.low(x).add_(m.high(x)),
    "setitem into a frozen value": lambda m, x: _set(m.low(x), m.high(m.low(x))),
    "setitem into zeros": lambda m, x: _set(torch.zeros(x.shape[0], D), m.high(m.low(x))),
    "copy_ into empty": lambda m, x: torch.empty(x.shape[0], D).copy_(m.high(m.low(x))) + 0,
    "a view written through its base": lambda m, x: _view_written(m, x),
    "a frozen value changed after it was taken": lambda m, x: _changed_later(m, x),
    "a frozen view changed through its base": lambda m, x: _base_changed(m, x),
    "out=": lambda m, x: m.high(torch.mul(m.low(x), 2, out=torch.empty(x.shape[0], D))),
    "reshape by size": lambda m, x: m.high(m.low(x)).view(x.size(0), 2, D // 2).reshape(x.shape[0] * 2, -1),
    "folded batch": lambda m, x: m.high(m.low(x).view(x.shape[0] * 2, D // 2).repeat(1, 2)).view(x.shape[0], -1),
    "batch on axis one": lambda m, x: m.high(m.low(x).view(-1, 2, D // 2).transpose(0, 1).repeat(1, 1, 2)).mean(0),
    "integers of a trainable value": lambda m, x: F.one_hot(m.high(m.low(x)).argmax(1), D) * m.high(m.low(x)),
    "detached": lambda m, x: m.high(m.low(x)) + m.high(m.low(x)).detach() ** 2,
    "no_grad inside": lambda m, x: m.high(m.low(x)) * _without_gradients(m, x),
    "dict output": lambda m, x: {"a": m.high(m.low(x)), "b": [m.low(x), None, 3]},
    "dataclass output": lambda m, x: Out(m.high(m.low(x)), ("text", m.low(x))),
    "stashed": lambda m, x: _stashed(m, x),
    "unregistered activation": lambda m, x: ACTIVATIONS["gelu"](m.high(ACTIVATIONS["gelu"](m.low(x)))),
    "iteration": lambda m, x: torch.stack([row * 2 for row in m.high(m.low(x)).unbind(1)]).t(),
    "loop over a tensor": lambda m, x: torch.stack([row for row in m.high(m.low(x)).t()]),
    "dropout before the head": lambda m, x: m.high(F.dropout(m.low(x), 0.5, m.training)),
    "gradient reversal": lambda m, x: m.high(Reverse.apply(m.high(m.low(x)))),
    "frozen above trainable": lambda m, x: m.low(m.high(m.low(x))),
    "functional weight": lambda m, x: F.linear(m.low(x), m.high.weight.tanh(), m.high.bias),
    "narrow": lambda m, x: m.high(m.low(x)).narrow(0, 0, x.shape[0] - 1),
    "mixed sizes": lambda m, x: m.high(m.low(x)).expand(3, x.shape[0], D).reshape(3 * x.shape[0], D),
    "autocast inside": lambda m, x: _autocast(m, x),
    "integer steering by a frozen shape": lambda m, x: m.high(m.low(x)) if x.shape[1] == D else x,
}


@dataclass
class Out:
    logits: Tensor
    extra: Any


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


ACTIVATIONS = {"gelu": nn.GELU()}


def _set(target, value):
    target[:, 0] = value[:, 1]
    return target * 1


def _view_written(m, x):
    base = m.low(x)
    part = base[:, :4]
    part.add_(m.high(x)[:, :4])
    return base * 2 + base[:, :1]


def _changed_later(m, x):
    h = m.low(x)
    y = m.high(x) + h
    h.mul_(0)
    return y + h


def _base_changed(m, x):
    h = m.low(x)
    part = h[:, :4]
    h.add_(1)
    return m.high(torch.cat([part, part], 1))


def _without_gradients(m, x):
    with torch.no_grad():
        return m.high(m.low(x)).softmax(1)


def _stashed(m, x):
    m.kept = m.low(x)
    y = m.high(m.kept)
    return y * m.kept


def _autocast(m, x):
    h = m.low(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = m.high(h)
    return y.float()


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


def test_frozen_modules_do_not_run_in_the_head():
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3))
    fl.freeze(model, through="2")
    split = check(model, x(4), names=["3"])
    ran = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    features = split.extract(x())
    assert ran == ["0", "1", "2", "3"]
    ran.clear()
    split.head(*features)
    assert ran == ["4"]


def test_head_shares_parameters_buffers_and_names():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D), nn.BatchNorm1d(D))
    fl.freeze(model, through="0")
    split = check(model, x(4))
    assert {name: id(p) for name, p in split.head.named_parameters()} == {
        name: id(p) for name, p in model.named_parameters() if p.requires_grad
    }
    assert set(split.head.state_dict()) == {k for k in model.state_dict() if not k.startswith("0.")}
    optimizer = torch.optim.SGD(split.head.parameters(), lr=0.1)
    split.head.train()
    split.head(*split.extract(x())).sum().backward()
    before = model[1].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model[1].weight)
    assert model[2].num_batches_tracked == 1


def test_head_is_readable():
    model = Net(FORWARDS["residual"])
    split = check(model, x(4), names=["low"])
    assert "self.high(f0_low)" in split.head.code
    assert "torch" not in split.head.code


@pytest.mark.parametrize("structure", ["tuple", "mapping"])
def test_inputs_may_be_tuples_and_mappings(structure):
    model = Net(lambda m, a, mask: m.high(m.low(a)) * mask)
    batch = (x(4), torch.rand(4, D)) if structure == "tuple" else {"a": x(4), "mask": torch.rand(4, D)}
    check(model, batch, names=["low", "input.1" if structure == "tuple" else "input.mask"])


def test_unbatched_inputs_are_shared():
    model = Net(lambda m, a, table: m.high(m.low(a)) @ table)
    split = check(model, (x(4), torch.randn(D, 3)))
    assert [(tensor.name, tensor.shared) for tensor in split.frontier] == [("low", False), ("input.1", True)]


def test_train_and_eval_take_their_own_recording():
    model = Net(lambda m, x: m.high(m.drop(m.low(x))), drop=nn.Dropout(0.5))
    split = check(model, x(4))
    features = split.extract(x())
    split.head.eval()
    assert torch.equal(split.head(*features), split.head(*features))
    split.head.train()
    assert not torch.equal(split.head(*features), split.head(*features))


def test_replaced_buffers_in_the_trainable_part_are_followed():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(D, D), nn.Linear(D, D)
            self.register_buffer("mean", torch.zeros(D))

        def forward(self, x):
            y = self.high(self.low(x))
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
            return y - self.mean

    model = Running()
    fl.freeze(model, through="low")
    split = check(model, x(4))
    other = copy.deepcopy(model)
    batch = x()
    split.head.train()
    split.head(*split.extract(batch))
    other.train()
    other(batch)
    assert torch.equal(model.mean, other.mean)
    assert model.mean.abs().sum() > 0


def test_low_rank_adapters_above_frozen_layers():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(4))
            self.down = nn.ModuleList(nn.Linear(D, 2, bias=False) for _ in range(2))
            self.up = nn.ModuleList(nn.Linear(2, D, bias=False) for _ in range(2))

        def forward(self, x):
            for at, layer in enumerate(self.layers):
                y = layer(x)
                x = y + self.up[at - 2](self.down[at - 2](x)) if at >= 2 else y
            return x

    model = Adapted()
    fl.freeze(model, modules=[model.layers])
    split = check(model, x(4))
    # the frozen product of layer 2 is stored too: nothing that depends on frozen values alone runs in the head
    assert [tensor.name for tensor in split.frontier] == ["layers.1", "layers.2"]


def test_a_deep_copy_of_model_and_head_together_keeps_the_sharing():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    model_copy, head_copy = copy.deepcopy((model, split.head))
    assert head_copy.get_parameter("high.weight") is model_copy.high.weight
    alone = copy.deepcopy(split.head)
    assert alone.get_parameter("high.weight") is not model.high.weight
    features = split.extract(x())
    assert torch.equal(alone(*features), split.head(*features))


def test_wrapping_for_distributed_training_keeps_the_sharing(tmp_path):
    from torch import distributed

    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(split.head)
        wrapped(*split.extract(x())).sum().backward()
    finally:
        distributed.destroy_process_group()
    assert model.high.weight.grad is not None
    assert model.low.weight.grad is None


def test_a_replaced_parameter_is_refused():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    features = split.extract(x())
    model.high.weight = nn.Parameter(torch.zeros(D, D))
    with pytest.raises(fl.SplitError, match="changed after it was split: 'high.weight'"):
        split.head(*features)


def test_double_and_load_state_dict_keep_the_sharing():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    state = {key: value + 1 for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    model.double()
    batch = x().double()
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_a_number_that_is_annealed_is_refused():
    model = Net(lambda m, x: m.high(m.low(x)) * m.scale)
    model.scale = 1.0
    split = check(model, x(4))
    features = split.extract(x())
    model.scale = 0.5
    with pytest.raises(fl.SplitError, match="'scale' is not what the head was made from"):
        split.head(*features)


def test_a_guard_that_differs_is_verified_and_taken_or_refused():
    taken = Net(lambda m, x: m.high(m.low(x)) if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(taken, x(4))
    batch = x(4) + 200
    assert torch.allclose(split.head(*split.extract(batch)), taken(batch))
    refused = Net(lambda m, x: m.high(m.low(x)) * 2 if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(refused, x(4))
    with pytest.raises(fl.SplitError, match="does not equal the model"):
        split.extract(x(4) + 200)


def test_features_are_never_written():
    model = Net(FORWARDS["in place on a frozen value"])
    split = check(model, x(4))
    features = split.extract(x())
    kept = [feature.clone() for feature in features]
    split.head(*features)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))


def test_wrong_features_are_refused():
    split = check(Net(FORWARDS["plain"]), x(4))
    with pytest.raises(fl.SplitError, match="another number of features"):
        split.head()
    with pytest.raises(fl.SplitError, match="another shape than the frontier"):
        split.head(torch.randn(B, D + 1))


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


def test_batch_statistics_in_the_frozen_part_are_named():
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Linear(D, 2))
    for parameter in [*model[0].parameters(), *model[1].parameters()]:
        parameter.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="Cannot cache the output of '1'") as error:
        fl.split(model, x(4))
    assert "training mode" in error.value.where
    fl.freeze(model, through="1")
    check(model, x(4))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        self.calls += 1
        return x * self.weight


REFUSED = {
    "a trainable value steers": (
        Net(lambda m, x: m.high(m.low(x)) if m.high(m.low(x)).sum() > 0 else x),
        fl.SplitError, "depends on trainable weights is handed to Python",
    ),
    "a trainable temperature": (
        Net(lambda m, x: m.low(x) * float(m.high.bias[0])),
        fl.SplitError, "depends on trainable weights is handed to Python",
    ),
    "a statistic of the batch": (
        Net(lambda m, x: m.high(m.low(x)) * m.low(x).mean()),
        fl.NotCacheable, "does not follow the batch",
    ),
    "a matrix of pairs": (
        Net(lambda m, x: m.high(m.low(x)) @ (h := m.low(x)).t() + h @ h.t()),
        fl.NotCacheable, "does not follow the batch",
    ),
    "numpy on the frozen side": (
        Net(lambda m, x: m.high(m.low(torch.from_numpy(m.low(x).numpy() * 2)))),
        fl.NotCacheable, "computes outside of torch",
    ),
    "a number in the output that follows the batch": (
        Net(lambda m, x: (m.high(m.low(x)), x.shape[0])),
        fl.SplitError, "cannot be generalised",
    ),
    "a size that only looks linear": (
        Net(lambda m, x: m.high(m.low(x)).narrow(0, 0, min(8, x.shape[0]))),
        fl.SplitError, "does not follow the batch beyond the recorded sizes",
    ),
    "sizes that depend on values": (
        Net(lambda m, x: m.high(m.low(x))[: int((x > 0).sum()) % 2 + 1]),
        fl.SplitError, "does not equal the model|cannot be generalised",
    ),
    "a value of the batch as a number": (
        Net(lambda m, x: m.high(m.low(x)) * m.low(x).abs().max().item()),
        fl.SplitError, "does not equal the model|cannot be generalised",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_split_is_refused(name):
    model, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text) as error:
        fl.split(model, x(4))
    assert all((error.value.what, error.value.where, error.value.received, error.value.do))


def test_a_frozen_part_that_counts_is_refused():
    model = nn.Sequential(Counting(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="'0.calls' is written during the forward pass"):
        fl.split(model, x(4))


def test_a_frozen_part_that_replaces_its_buffer_is_refused():
    class Averaging(Counting):
        def forward(self, x):
            self.calls = self.calls * 0.9 + x.mean()
            return x * self.weight

    model = nn.Sequential(Averaging(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="the buffer '0.calls' is replaced in forward"):
        fl.split(model, x(4))


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


def test_two_samples_are_enough():
    check(Net(FORWARDS["residual"]), x(2))


def test_ordered_dicts_and_named_children_survive():
    model = nn.Sequential(OrderedDict(a=nn.Linear(D, D), b=nn.ReLU(inplace=True), c=nn.Linear(D, 3)))
    fl.freeze(model, through="a")
    split = check(model, x(4), names=["b"])
    assert split.recipe["mode"] == "inference"


def test_recipes_follow_the_frozen_weights_and_not_the_head():
    model = Net(FORWARDS["plain"])
    first = dict(fl.split(model, x(4)).recipe)
    with torch.no_grad():
        model.high.weight += 1
    assert dict(fl.split(model, x(3)).recipe) == first
    with torch.no_grad():
        model.low.bias[0] += 1e-6
    assert dict(fl.split(model, x(4)).recipe) != first
