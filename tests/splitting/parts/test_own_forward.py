"""Where no graph holds, the head runs the model's own forward, and frozen layers are answered from the cache."""

import collections
import copy
import itertools
import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import frostline as fl
from frostline.splitting.calls.addresses import Frame
from frostline.splitting.parts.own_forward import Uses
from helpers_splitting import D, Net, check, x


def _written_rows(m, x):
    low = m.low(x)
    made = torch.zeros(len(low), D)
    for at in range(len(low)):
        made[at] = m.high(low[at])
    return made


def _paired(m, low):
    return torch.stack([m.high(a) + b for a, b in zip(low, m.high(low), strict=True)])


def _repeated(m, low):
    return m.high(low) + m.code(low.repeat_interleave(1 + (low[:, 0] > 0).long(), 0)).mean(0)


def _own_rows(m, x):
    """An attribute that is set and read within one call."""
    m.rows = m.low(x).unbind(0)
    return torch.stack([m.high(row) for row in m.rows])


def _first_call(m, x):
    high = m.high(m.low(x))
    if m.training and not m.is_ready:
        m.seen.fill_(len(x))
        m.is_ready = True
    return high - m.seen


def _dropped_by_chance(m, x):
    high = m.high(m.low(x))
    return high * 0 if m.training and random.random() < 0.5 else high


def _packed(m, x):
    low = m.low(x).view(-1, 2, D // 2)
    lengths = 1 + (low.sum((1, 2)) > 0).long()
    packed = nn.utils.rnn.pack_padded_sequence(low, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(m.rnn(packed)[0], batch_first=True, total_length=2)[0]


def _hooked(m, x):
    low = m.low(x)
    high = m.high(low)
    if high.requires_grad:
        high.register_hook(lambda gradient: gradient * low)
    return high


def _layer_dropped(m, x):
    low = m.low(x)
    return m.code(low if m.training and torch.rand([]) < 0.5 else m.high(low))


def _scaled(m, x):
    made, size = m.high(m.low(x)), len(x)
    return made.sum(1, keepdim=size == 2) if size < 3 else made


def _sorted_rows(m, x):
    return torch.stack(sorted(m.high(m.low(x)), key=lambda row: float(row.detach().sum())))


REPLAYED = {
    "a layer for every row": lambda m, x: torch.stack([m.high(row) for row in m.low(x)]),
    "rows in pairs": lambda m, x: _paired(m, m.low(x)),
    "rows that are written": _written_rows,
    "rows that are kept for a moment": _own_rows,
    "rows sorted by trainable values": _sorted_rows,
    "a float that follows the batch": lambda m, x: m.high(m.low(x)) * math.sqrt(len(x)),
    "a share of the batch": lambda m, x: m.high(m.low(x)) * (1.0 / len(x)),
    "another path in small batches": lambda m, x: m.high(m.low(x)) if len(x) > 2 else m.high(m.low(x)).tanh(),
    "weights that are replaced": lambda m, x: functional_call(m.high, {"weight": m.high.weight / 2}, m.low(x)),
    "vmap": lambda m, x: torch.vmap(lambda row: m.high.weight @ row)(m.low(x)),
    "a value of the batch": lambda m, x: m.high(low := m.low(x)) * low.abs().max().item(),
    "values decide": lambda m, x: m.high(low := m.low(x)) * (2 if low.abs().max() > 1 else 1),
    "trainable values decide": lambda m, x: (high := m.high(m.low(x))) * (2 if high.abs().max() > 1 else 1),
    "a hook that holds its batch": _hooked,
    "a first call": _first_call,
    "chance in Python": _dropped_by_chance,
    "a packed sequence": _packed,
    "rows that a mask chooses": lambda m, x: m.high(low := m.low(x)) + m.high(low[low[:, 0] > 0]).sum(0),
    "distinct values": lambda m, x: m.high(low := m.low(x)) * len(low.sign().unique()),
    "rows that are repeated": lambda m, x: _repeated(m, m.low(x)),
    "a place decides": lambda m, x: m.code(low) if (low := m.low(x))[-1].abs().max() > 20 else m.high(low),
    "layer drop that Python decides": _layer_dropped,
    "another shape in small batches": _scaled,
}  # fmt: skip


def _model(name):
    torch.manual_seed(0)
    model = Net(REPLAYED[name], rnn=nn.RNN(D // 2, 3, batch_first=True))
    model.is_ready = False
    return model


@pytest.mark.parametrize("name", REPLAYED)
def test_the_head_is_the_model_at_every_batch_size_and_stores_the_frozen_output_alone(name):
    model = _model(name)
    split = check(model, x(4), names=["low"] if name != "vmap" else None, is_graph=False)
    assert any("own forward" in note for note in split.explain().notes)
    split.head.eval()
    for count, scale in itertools.product((1, 2, 5, 7), (1, 9)):
        batch, twin = x(count) * scale, copy.deepcopy(model)  # both sides start with the same memory
        assert torch.equal(split.head(*split.extract(batch)), twin(batch))


@pytest.mark.parametrize(
    "name", ["a layer for every row", "a first call", "chance in Python", "layer drop that Python decides"]
)
def test_a_cached_training_is_the_uncached_one(name, tmp_path):
    torch.manual_seed(0)
    data = [(row, row.sum()) for row in torch.cat([x(14), x(9) * 9])]
    found = []
    for cache in (False, tmp_path):
        model = _model(name)
        fl.fit(model, data, data[::3], loss=lambda out, target: F.mse_loss(out.flatten(1).sum(1), target), epochs=2,
               batch_size=6, lr=1e-3, cache=cache, progress=False, monitor=False)  # fmt: skip
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(found[0], found[1])


LEFT = collections.deque(maxlen=1)  # what is no configuration is not watched


def _leave_tensor(module, args, output):
    LEFT.append(output)


def _leave_number(module, args, output):
    LEFT.append(bool(output.abs().max() > 20))


@pytest.mark.parametrize(("leave", "read"), [
    (_leave_tensor, lambda m, low: m.high(LEFT[0])),
    (_leave_number, lambda m, low: m.high(low) * (2 if LEFT[0] else 1)),
])  # fmt: skip
def test_what_a_frozen_layer_leaves_outside_of_the_model_is_not_taken_from_another_batch(leave, read):
    model = Net(lambda m, x: read(m, m.low(x)) * math.sqrt(len(x)))
    model.low.register_forward_hook(leave)
    with pytest.raises(fl.FrostlineError):
        split = fl.split(model, x(4))
        split.verify(x(4) * 99)


def test_a_copy_of_the_head_with_its_model_is_another_head_and_one_without_says_so():
    model = _model("a layer for every row")
    split = fl.split(model, x(4))
    other, head = copy.deepcopy((model, split.head))
    with torch.no_grad():
        other.high.weight.mul_(2)
    features = split.extract(x(3))
    assert not torch.equal(head(*features), split.head(*features))
    with pytest.raises(fl.SplitError, match="has no model") as error:
        copy.deepcopy(split.head)(*features)
    assert "copy.deepcopy((model, split.head))" in error.value.do


def test_the_head_has_the_names_of_the_model():
    model = _model("a layer for every row")
    head = fl.split(model, x(4)).head
    assert {name for name, parameter in head.named_parameters()} == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    assert set(head.state_dict()) <= set(model.state_dict())


def test_sizes_are_no_use_of_a_tensor_and_values_are():
    model = Net(lambda m, x, y: m.high(m.low(x)) * len(x) * (y.sum() + y.shape[0]))
    uses = Uses(model, frozenset([Frame("low", 0)]))
    uses.run_once((x(4), x(4)))
    assert uses.used == {(None, 1), (Frame("low", 0), 0)}
