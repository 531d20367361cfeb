import collections
import copy
import itertools
import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.python_state.kept_state import Place, fingerprint, keeps_state_error
from helpers_splitting import Net, check, unanswered, x

SCALE, TABLE, COUNT = {"of": 1.0}, [1.0, 2.0], 0


class Factors:
    scale = 1.0


class Schedule:
    scale = 1.0

    def __call__(self):
        return self.scale


class Configured(Net):
    scale_of_class = 1.0


CONFIGURATIONS = {
    "a number": (lambda m: m.scale, lambda m: setattr(m, "scale", 2.0)),
    "a text": (lambda m: {"one": 1.0, "two": 2.0}[m.kind], lambda m: setattr(m, "kind", "two")),
    "a class attribute": (lambda m: m.scale_of_class, lambda m: setattr(Configured, "scale_of_class", 2.0)),
    "a dict": (lambda m: m.config["scale"], lambda m: m.config.update(scale=2.0)),
    "a list": (lambda m: m.scales[0], lambda m: m.scales.insert(0, 2.0)),
    "a nested object": (lambda m: m.settings.scale, lambda m: setattr(m.settings, "scale", 2.0)),
    "a plain tensor": (lambda m: m.plain, lambda m: setattr(m, "plain", torch.tensor(2.0))),
    "a plain tensor in place": (lambda m: m.plain, lambda m: m.plain.mul_(2)),
    "an attribute by its name": (lambda m: getattr(m, f"scale_{1}"), lambda m: setattr(m, "scale_1", 2.0)),
    "a class that is no module": (lambda m: Factors.scale, lambda m: setattr(Factors, "scale", 2.0)),
    "a set": (lambda m: 2.0 if "big" in m.flags else 1.0, lambda m: m.flags.add("big")),
    "an object that is called": (lambda m: m.schedule(), lambda m: setattr(m.schedule, "scale", 2.0)),
    "an array": (lambda m: float(m.array[0]), lambda m: m.array.__setitem__(0, 2.0)),
    "a global": (lambda m: SCALE["of"], lambda m: SCALE.update(of=2.0)),
}


@pytest.fixture(autouse=True)
def _as_before():
    yield
    SCALE.update(of=1.0)
    Factors.scale = 1.0
    Configured.scale_of_class = 1.0


def configured(read):
    model = Configured(lambda m, batch: m.high(m.low(batch)) * read(m))
    model.scale, model.kind, model.config, model.scales = 1.0, "one", {"scale": 1.0}, [1.0, 3.0]
    model.settings = type("Settings", (), {})()
    model.settings.scale = 1.0
    model.scale_1, model.flags, model.schedule = 1.0, {"small"}, Schedule()
    model.plain, model.array = torch.tensor(1.0), np.ones(2)
    return model


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_that_changes_after_the_split_is_refused(name):
    read, change = CONFIGURATIONS[name]
    model = configured(read)
    split = fl.split(model, x(4))
    features = split.extract(x(4))
    split.head(*features)
    change(model)
    with pytest.raises(fl.SplitError, match="changed after it was split"):
        split.head(*features)


def _memory(m, batch, remember, recall):
    low = m.low(batch)
    recalled = recall(m)
    remember(m, low.detach().mean(0))
    return m.high(low if recalled is None else low + recalled)


MEMORIES = {
    "an attribute": (lambda m, new: setattr(m, "last", new), lambda m: m.last),
    "a list": (lambda m, new: m.memories.append(new), lambda m: m.memories[-1] if m.memories else None),
    "a dict": (lambda m, new: m.table.update(last=new), lambda m: m.table.get("last")),
    "a global": (lambda m, new: TABLE.__setitem__(0, float(new.mean())), lambda m: TABLE[0]),
    "a counter": (lambda m, new: setattr(m, "calls", m.calls + 1), lambda m: 1.0 if m.calls > 1 else None),
}


class Holder:
    calls = 0


class Slotted:
    __slots__ = ("calls",)


def _counting_default(calls=[]):  # noqa: B006 (what people write)
    calls.append(0)
    return len(calls)


def _counting_closure():
    calls = 0

    def count():
        nonlocal calls
        calls += 1
        return calls

    return count


def _counted(holder):
    holder.calls += 1
    return holder.calls


COUNTERS = {
    "an attribute by its name": lambda m: setattr(m, "own_calls", getattr(m, "own_calls") + 1) or m.own_calls,  # noqa: B009
    "a class": lambda m: _counted(Holder),
    "an object with slots": lambda m: _counted(m.slotted),
    "a default argument": lambda m: _counting_default(),
    "a closure": lambda m: m.count(),
    "an iterator": lambda m: next(m.counter),
    "a queue": lambda m: m.queue.append(0) or len(m.queue),
    "a set": lambda m: m.seen_batches.add(len(m.seen_batches)) or len(m.seen_batches),
    "a generator of Python's own": lambda m: m.python.random() + 1,
    "a generator of NumPy's own": lambda m: m.numpy.random() + 1,
}


def counting(name, *, in_layer):
    """A model that is another one after many calls, by a count that no attribute of a module holds as a number."""

    class Counting(nn.Linear):
        def forward(self, batch):
            return super().forward(batch) * (2.0 if COUNTERS[name](self) > 1000 else 1.0)

    model = Net(lambda m, batch: m.high(m.low(batch)) * (1.0 if in_layer or COUNTERS[name](m) < 1000 else 2.0))
    model.high = Counting(8, 8) if in_layer else model.high
    holder = model.high if in_layer else model
    holder.slotted, holder.queue, holder.own_calls = Slotted(), collections.deque(maxlen=2000), 0
    holder.slotted.calls, holder.count = 0, _counting_closure()
    holder.counter = itertools.count() if name == "an iterator" else 0
    holder.seen_batches, holder.python, holder.numpy = set(), random.Random(0), np.random.default_rng(0)
    return model


IN_CONTAINERS = "a queue", "a set"  # of a module: the head moves them as the model does


@pytest.mark.parametrize("name", IN_CONTAINERS)
def test_a_count_in_a_container_of_a_module_moves_in_the_head_too(name):
    model = counting(name, in_layer=False)
    split = fl.split(model, x(4))
    for _ in range(3):
        split.head(*split.extract(x(4)))
    assert len(model.queue if name == "a queue" else model.seen_batches) == 3


@pytest.mark.parametrize("name", [name for name in COUNTERS if name not in IN_CONTAINERS])
def test_a_count_that_lives_anywhere_is_refused(name):
    with pytest.raises(fl.NotCacheable) as error:
        fl.split(counting(name, in_layer=False), x(4))
    told = ("keeps state", "moves values", "has seen other batches", "cannot be put back")
    assert any(text in error.value.what for text in told)


@pytest.mark.parametrize(
    "name", [name for name in COUNTERS if name not in ("an attribute by its name", "a queue", "a set")]
)
def test_a_count_of_a_layer_that_is_called_whole_is_refused_where_it_cannot_be_put_back(name):
    with pytest.raises(fl.NotCacheable, match="moves values|keeps state|cannot be put back"):
        fl.split(counting(name, in_layer=True), x(4))


def test_a_count_of_calls_of_train_is_as_before():
    class Counting(nn.Linear):
        epochs = 0

        def train(self, mode=True):
            self.epochs += int(mode)
            return super().train(mode)

        def forward(self, batch):
            return super().forward(batch) * (1 + self.epochs)

    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.high = Counting(8, 8)
    model.train()
    split = fl.split(model, x(4))
    split.verify(x(4))
    batch = x(3)
    split.prove(batch, split.extract(batch))
    split.check_unchanged()
    assert model.high.epochs == 1


def test_a_table_of_tensors_by_size_may_grow():
    tables = {}

    def forward(m, batch):
        if batch.shape[1] not in tables:
            tables[batch.shape[1]] = torch.ones(batch.shape[1])
        return m.high(m.low(batch)) + tables[batch.shape[1]]

    model = Net(forward)
    split = fl.split(model, x(4))
    batch = x(3)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


@pytest.mark.parametrize("part", ["low", "high"])
@pytest.mark.parametrize("key", [lambda batch: "first", lambda batch: batch.shape[1]], ids=["name", "size"])
def test_a_table_that_keeps_something_of_the_first_batch_is_refused(part, key):
    tables = {}

    def keep(module, given):
        if key(given[0]) not in tables:
            tables[key(given[0])] = given[0].detach().mean(0)
        return given[0] - tables[key(given[0])]

    model = Net(lambda m, batch: m.high(m.low(batch)))
    getattr(model, part).register_forward_pre_hook(keep)
    with pytest.raises(fl.NotCacheable, match="outside of its modules' own attributes") as error:
        fl.split(model, x(4))
    assert "tables of keep[" in error.value.where


@pytest.mark.parametrize("name", MEMORIES)
def test_what_is_remembered_from_batch_to_batch_is_refused(name):
    remember, recall = MEMORIES[name]
    model = Net(lambda m, batch: _memory(m, batch, remember, recall))
    model.last, model.memories, model.table, model.queue, model.calls = None, [], {}, collections.deque(maxlen=3), 0
    with pytest.raises(fl.FrostlineError) as error:
        fl.split(model, x(4))
    if name != "a global":  # it steers as a plain number before anything can be compared
        assert "from batch to batch" in error.value.what or "other batches" in error.value.what
    assert model.last is None
    assert not model.memories
    assert model.calls == 0


def test_a_first_call_that_initialises_is_refused():
    def forward(m, batch):
        low = m.high(unanswered(m, batch))
        if m.training and not m.is_ready:
            m.offset.copy_(low.detach().mean(0))
            m.is_ready = True
        return low - m.offset

    model = Net(forward)
    model.register_buffer("offset", torch.zeros(8))
    model.is_ready = False
    with pytest.raises(fl.NotCacheable, match="is_ready"):
        fl.split(model, x(4))


class Centred(nn.Linear):
    """A layer that takes a number from the first batch that it sees, if only a small one."""

    def forward(self, batch):
        made = super().forward(batch)
        if not hasattr(self, "centre"):
            self.centre = made.detach().mean() * 1e-6
        return made - self.centre


def _centred(m, low):
    if not hasattr(m, "centre"):
        m.centre = low.detach().mean() * 1e-6
    return low - m.centre


def test_what_the_first_batch_sets_is_refused_however_small_it_is():
    with pytest.raises(fl.NotCacheable, match="'low.centre'") as error:
        fl.split(Net(lambda m, batch: m.high(m.low(batch)), low=Centred(8, 8).requires_grad_(False)), x(4))
    assert "the first batch" in error.value.received
    with pytest.raises(fl.NotCacheable, match="'centre'"):
        fl.split(Net(lambda m, batch: m.high(_centred(m, unanswered(m, batch)))), x(4))


def test_what_the_first_batch_sets_in_the_trainable_part_is_set_by_the_head():
    model = Net(lambda m, batch: m.high(_centred(m, m.low(batch))))
    split, twin = check(model, x(4), is_graph=False), copy.deepcopy(model)
    for batch in (x(3), x(5) + 100):
        assert torch.equal(split.head(*split.extract(batch)), twin(batch))
    assert model.centre == twin.centre


def test_what_one_attempt_at_a_split_leaves_is_not_there_in_the_next():
    def forward(m, batch):
        low = m.low(batch)
        m.attention(low, low, low)  # values decide in it, so that two heads are tried
        return m.high(_centred(m, low))

    model = Net(forward, attention=nn.MultiheadAttention(8, 2, batch_first=True).requires_grad_(False))
    split, twin = check(model, x(4), is_graph=False), copy.deepcopy(model)
    assert not hasattr(model, "centre")
    for batch in (x(3), x(5) + 100):
        assert torch.equal(split.head(*split.extract(batch)), twin(batch))


def test_a_tensor_over_an_array_of_the_model_is_a_constant_of_the_graph():
    model = Net(lambda m, batch: m.high(unanswered(m, batch)) + torch.from_numpy(m.table))
    model.table = np.arange(8, dtype=np.float32)
    check(model, x(4))


def test_what_every_first_call_makes_alike_is_no_state():
    def forward(m, batch):
        if m.waves is None:
            m.waves = torch.arange(8).cos()
        return m.high(m.low(batch) * m.waves)

    model = Net(forward)
    model.waves = None
    check(model, x(4))


def test_notes_that_are_only_added_to_are_no_state():
    seen = []
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    split = fl.split(model, x(4))
    split.head(*split.extract(x(3)))
    assert seen[-1] == 3


PLACES = {
    "a number": ([1], 2, True), "the same number": ([1], 1, False), "an equal one of another type": ([1], 1.0, False),
    "a text": (["a"], "b", True), "not a number": ([1.0], float("nan"), False), "nothing": ([1], None, True),
    "another tensor": ([torch.ones(1)], torch.ones(1), True),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_place_has_changed_if_something_else_is_kept_there(name):
    table, other, expected = PLACES[name]
    place = Place("here", table := list(table), 0)
    assert not place.has_changed()
    table[0] = other
    assert place.has_changed() is expected


def test_what_is_written_in_place_or_taken_away_has_changed():
    tensor, array, table = torch.ones(2), np.ones(2), {}
    places = [Place("tensor", {"a": tensor}, "a"), Place("array", [array], 0)]
    assert not any(place.has_changed() for place in places)
    tensor.add_(1)
    array[0] = 3
    assert all(place.has_changed() for place in places)
    table["a"] = 1
    place = Place("entry", table, "a")
    table.clear()
    assert place.has_changed()
    assert place.now() == "nothing"


def test_fingerprints_tell_values_apart_and_not_where_they_lie():
    same = [(torch.ones(2), torch.ones(2)), (np.ones(2), np.ones(2)), ({"a": [1, (2,)]}, {"a": [1, (2,)]}),
            (object(), object()), (None, None)]  # fmt: skip
    assert all(fingerprint(one) == fingerprint(other) for one, other in same)
    others = [1, 1.0, "1", b"1", None, True, torch.ones(2), torch.zeros(2), np.ones(2), np.ones((2, 1)), [1], [2],
              {"a": 1}, {"a": 2}, {"b": 1}, object(), nn.ReLU()]  # fmt: skip
    found = [fingerprint(value) for value in others]
    assert len(set(map(repr, found))) == len(found)
    deep = [[[[[1]]]]]
    assert fingerprint(deep) == fingerprint([[[[[2]]]]])  # so deep nobody looks


def test_the_names_of_what_moved_are_told_and_four_are_enough():
    error = keeps_state_error(["a", "b", "c", "d", "e"])
    assert error.what.endswith("layers: 'a', 'b', 'c', 'd'.")
    assert (error.where, keeps_state_error([]).where) == ("a", "the model")


def test_state_of_a_layer_that_is_called_whole_is_its_own():
    class Stateful(nn.Linear):
        last = None

        def forward(self, batch):
            made = super().forward(batch)
            made = made if self.last is None else made + 0.1 * self.last
            self.last = made.detach().mean(0)
            return made

    model = nn.Sequential(nn.Linear(8, 8), Stateful(8, 2))
    fl.freeze(model, through="0")
    split = fl.split(model, x(4))
    batches = [x(3), x(5)]
    features = [split.extract(batch) for batch in batches]
    expected = [model(batch) for batch in batches]
    model[1].last = None
    for own, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(split.head(*own), theirs)


def test_a_layer_that_freezes_itself_is_refused_and_thawed():
    class Freezing(nn.Linear):
        def forward(self, batch):
            self.requires_grad_(self.training)
            return super().forward(batch)

    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.high = Freezing(8, 8)
    with pytest.raises(fl.FrostlineError):
        fl.split(model, x(4))
    assert model.high.weight.requires_grad


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def scaled(self, batch):
        return batch * self.factor


EVALUATED = [1.0]


def _of_registry(factor):
    table = {"one": Scaled(1.0), "other": Scaled(factor)}
    return lambda batch: table["other"].scaled(batch)


def _of_file(factor, name="frostline_test_file"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].factor = factor
    exec("def act(batch):\n    return batch * factor\n", vars(sys.modules[name]))
    return sys.modules[name]


def _named(factor):
    file = _of_file(factor)
    return lambda batch: file.act(batch)


def _imported(factor):
    _of_file(factor)

    def act(batch):
        from frostline_test_file import act

        return act(batch)

    return act


def _evaluated(factor):
    EVALUATED[0] = factor
    return lambda batch: batch * eval("EVALUATED")[0]


def _of_globals(factor):
    EVALUATED[0] = factor
    return lambda batch: batch * globals()["EVALUATED"][0]


def _outside_of_the_tree(factor):
    side = nn.Hardtanh(-factor, factor)
    return lambda batch: side(batch)


class Rare(nn.Linear):
    """A layer that large samples take another way through."""

    def forward(self, batch):
        low = super().forward(batch)
        is_large = (low.abs() > 100).any(1, keepdim=True)
        return torch.where(is_large, self.act(low), low) if is_large.any() else low


@pytest.mark.parametrize("make", [_of_registry, _named, _imported, _evaluated, _of_globals, _outside_of_the_tree])
def test_what_only_a_rare_branch_reads_is_in_the_recipe(make):
    recipes = []
    for factor in (2.0, 3.0, 2.0):
        torch.manual_seed(0)
        model = Net(lambda m, batch: m.high(m.low(batch)))
        model.low = Rare(8, 8).requires_grad_(False)
        model.low.act = make(factor)
        recipes.append(fl.split(model, x(4)).recipe)
    assert recipes[0] == recipes[2] != recipes[1]
