from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import frostline as fl
from frostline.splitting import attempts, failed_attempts, remembered_split, verify_once
from frostline.splitting.candidate import Candidate
from helpers_splitting import FORWARDS, D, Net, check, unanswered, x


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_a_wrapper_of_the_whole_model_is_taken_off(wrap):
    wrapper = wrap(Net(lambda m, batch: m.high(m.low(batch))))
    fl.freeze(wrapper, through="low")
    split = check(wrapper, x(4), names=["low"])
    assert split.recipe["calls"] == fl.split(next(iter(wrapper.children())), x(4)).recipe["calls"]


def test_a_graph_is_taken_where_it_holds_and_else_the_models_own_forward():
    plain = check(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    assert not plain.explain().notes
    assert plain.num_guards == 0
    by_rows = check(Net(lambda m, batch: torch.stack([m.high(row) for row in m.low(batch)])), x(4), is_graph=False)
    assert "the head runs the model's own forward" in by_rows.explain().notes[0]


def test_values_that_decide_are_read_by_a_head_that_runs_the_models_own_forward():
    def forward(m, batch):
        low = m.low(batch)
        return m.high(low) * (2 if low.abs().max() > 100 else 1)

    assert check(Net(forward), x(4), is_graph=False).num_guards == 0


def test_the_graphs_own_failure_is_told_where_neither_holds():
    with pytest.raises(fl.SplitError, match="handed to Python"):
        fl.split(Net(lambda m, batch: m.high(unanswered(m, batch)) * float(m.high.weight.sum())), x(4))


def _written_after_use(m, x):
    h = m.low(x)
    y = m.high(h)
    h += y  # autograd still needs h
    return h


def test_a_model_that_fails_by_itself_is_told_so_with_its_own_line():
    with pytest.raises(fl.SplitError, match="itself fails on the example") as error:
        fl.split(Net(_written_after_use), x(4))
    assert "modified by an inplace operation" in error.value.received
    assert isinstance(error.value.__cause__, RuntimeError)

    def forward(m, x):
        return m.high(m.low(x))[:, [0, 99]]

    with pytest.raises(fl.SplitError) as error:
        fl.split(Net(forward), x(4))
    assert "return m.high(m.low(x))[:, [0, 99]]" in error.value.where


class Collecting(nn.Module):
    """Reads what hooks of a frozen and a trainable layer have left in a dict."""

    def __init__(self, read):
        super().__init__()
        self.low, self.mid, self.high, self.read, self.seen = (
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, 2),
            read,
            {},
        )
        self.low.register_forward_hook(lambda _, __, output: self.seen.update(low=output))
        self.mid.register_forward_hook(lambda _, __, output: self.seen.update(mid=output))

    def forward(self, batch):
        self.mid(self.low(batch))
        return self.high(self.read(self.seen) + self.seen["mid"])


def _asserted(seen):
    assert "low" in seen
    return seen["low"]


@pytest.mark.parametrize(
    "read", [lambda seen: seen["low"], _asserted, lambda seen: seen["low"] * (2 // (len(seen) - 1))]
)
def test_an_error_that_only_the_head_raises_is_not_taken_for_one_of_the_model(read):
    model = Collecting(read)
    fl.freeze(model, modules=[model.low])
    with pytest.raises(fl.NotCacheable) as error:
        fl.split(model, x(4))
    assert error.value.where == "keys of seen"


def test_a_transform_of_functions_in_a_mixed_module_is_refused_with_the_way_out():
    model = Net(lambda m, x: torch.vmap(lambda row: m.high.weight @ row)(unanswered(m, x)))
    with pytest.raises(fl.SplitError, match="cannot be recorded") as error:
        fl.split(model, x(4))
    assert "a module of its own" in error.value.do

    class Mapped(nn.Linear):
        def forward(self, rows):
            return torch.vmap(lambda row: self.weight @ row)(rows)

    split = fl.split(Net(lambda m, x: m.high(m.low(x)), high=Mapped(D, D)), x(4))
    assert split.explain().verification.is_exact


def test_a_layer_that_the_model_does_not_register_is_refused_with_the_way_out():
    unregistered = nn.Linear(D, D)
    with pytest.raises(fl.SplitError, match="makes a trainable value by a call that cannot be recorded") as error:
        fl.split(Net(lambda m, x: unregistered(m.high(unanswered(m, x)))), x(4))
    assert "nn.ModuleList" in error.value.do


def test_a_number_that_moves_in_every_call_is_not_taken_for_a_size():
    def forward(m, batch):
        m.calls += 1
        return m.high(unanswered(m, batch)) * (1 + 0.05 * m.calls)

    model = Net(forward)
    model.calls = 0
    with pytest.raises(fl.NotCacheable, match="keeps state from batch to batch .*'calls'"):
        fl.split(model, x(4))
    assert model.calls == 0
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size"):
        fl.split(Net(lambda m, batch: m.high(unanswered(m, batch)) * (len(batch) ** 2 / 3)), x(4))


def test_a_frozen_part_without_parameters_is_told():
    class Packed(nn.Module):  # as quantised layers are
        def forward(self, x):
            return x * 2

    model = nn.Sequential(Packed(), nn.Linear(2, 2), nn.Linear(2, 2))
    fl.freeze(model, modules=[model[0]])
    with pytest.raises(fl.SplitError, match="'0' is frozen but has no parameters"):
        fl.split(model, torch.randn(4, 2))


def test_nothing_or_everything_frozen_is_said():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D))
    with pytest.raises(fl.SplitError, match="Nothing is frozen"):
        fl.split(model, x(4))
    fl.freeze(model)
    with pytest.raises(fl.SplitError, match="Everything is frozen"):
        fl.split(model, x(4))


def test_one_layer_has_no_line_and_is_not_told_to_freeze():
    for model in (nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2))):
        with pytest.raises(fl.SplitError, match="Nothing is frozen") as error:
            fl.split(model, torch.randn(3, 4))
        assert "several layers" in error.value.do


def test_examples_that_do_not_fit_are_refused():
    model = Net(FORWARDS["plain"])
    with pytest.raises(fl.DataError, match="example batch is too small"):
        fl.split(model, x(1))
    with pytest.raises(fl.DataError, match="another device"):
        fl.split(model, torch.empty(4, D, device="meta"))
    with pytest.raises(fl.DataError, match="cannot be called with these inputs"):
        fl.split(model, {"z": x(4)})
    with pytest.raises(fl.DataError, match="The batch size of the inputs cannot be determined"):
        fl.split(model, ("text", 3))


def test_two_samples_are_an_example():
    assert fl.split(Net(FORWARDS["plain"]), x(2)).frontier


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


class Memory(dict):
    """Proofs by recipe and key."""

    def recall(self, part, key):
        return self.get((part.recipe["calls"], tuple(sorted(key.items()))))

    def keep(self, part, key, figures):
        self[part.recipe["calls"], tuple(sorted(key.items()))] = figures


def counted(model):
    rows = []
    model.low.register_forward_hook(_counting(rows))
    return model, rows


def _counting(rows):
    return lambda module, args, output: rows.append(len(output))


def test_a_proof_that_is_remembered_is_not_made_again_and_explained_alike():
    memory, batch = Memory(), torch.ones(4, D)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model, rows = counted(Net(lambda m, batch: m.high(m.low(batch))))
        found.append((remembered_split(model, batch, memory), sum(rows)))
    assert len(memory) == 1
    (first, first_rows), (second, second_rows) = found
    assert second_rows < first_rows / 3
    assert first.explain() == second.explain()
    assert torch.equal(second.head(*second.extract(batch)), model(batch))


def test_a_batch_is_verified_once_for_its_modes(monkeypatch):
    memory, batch = Memory(), torch.ones(4, D)
    split = remembered_split(Net(lambda m, batch: m.high(m.low(batch))), batch, memory)
    calls, real = [], split.verify

    def verify(*args, modes):
        calls.append(modes)
        return real(*args, modes=modes)

    monkeypatch.setattr(split, "verify", verify)
    seconds = {verify_once(split, batch, modes=("train",), memory=memory) for _ in range(2)}
    assert len(seconds) == 1
    assert min(seconds) > 0
    verify_once(split, batch, modes=("train", "eval"), memory=memory)
    verify_once(split, batch * 2, modes=("train",), memory=memory)
    assert calls == [("train",), ("train", "eval"), ("train",)]


def test_a_model_that_reads_what_has_no_text_is_proven_every_time():
    memory, batch = Memory(), torch.ones(4, D)
    for _ in range(2):
        model, rows = counted(Net(lambda m, batch: m.high(m.low(batch))))
        model.order = iter([1, 2])
        split = remembered_split(model, batch, memory)
        before = sum(rows)
        verify_once(split, batch, modes=("train",), memory=memory)
        assert sum(rows) > before
    assert memory == {}


def test_a_head_that_is_steered_at_as_many_places_as_the_graph_is_not_proven(monkeypatch):
    made, real = [], Candidate.prove
    monkeypatch.setattr(Candidate, "prove", lambda own, example: (made.append(own), real(own, example))[1])

    def forward(m, batch):
        h = m.low(batch)
        return m.high(m.mid(h) if h.abs().max() < 1e9 else h)

    model = Net(forward, mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split = fl.split(model, x(4))
    assert split.num_guards == 1
    assert len(made) == 1


@pytest.fixture
def wholes_are_refused(monkeypatch):
    """The proof of a graph that calls modules whole fails; how often it was made."""
    made, real = [], Candidate.prove

    def prove(candidate, example):
        if candidate.plan.settings.is_whole and not candidate.plan.settings.replayed:
            made.append(candidate)
            raise fl.SplitError(what="It differs.", where="here", received="another", do="split again.")
        return real(candidate, example)

    monkeypatch.setattr(Candidate, "prove", prove)
    return made


def test_an_attempt_that_was_refused_before_the_one_that_holds_is_not_proven_again(wholes_are_refused):
    memory, batch, notes = Memory(), torch.ones(4, D), set()
    for _ in range(3):
        torch.manual_seed(0)
        model, rows = counted(Net(lambda m, batch: m.high(m.low(batch))))
        split = remembered_split(model, batch, memory)
        notes.add((str(replace(split.explain(), measure=None)), split.head.code))
    assert len(wholes_are_refused) == 1
    assert len(notes) == 1
    assert sum(rows) == 2 * 14
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_a_refusal_is_told_in_every_start_with_its_own_words(wholes_are_refused, monkeypatch):
    memory, batch = Memory(), torch.ones(4, D)
    monkeypatch.setattr(attempts, "_replayed_split", lambda *given, **options: None)
    prove = Candidate.prove
    monkeypatch.setattr(Candidate, "prove", lambda own, example: prove(own, example) if own.plan.settings.is_whole
                        else pytest.fail("not reached"))  # fmt: skip
    monkeypatch.setattr(attempts, "record_plan", whole_only(attempts.record_plan))
    for _ in range(2):
        with pytest.raises(fl.SplitError, match="It differs") as error:
            remembered_split(Net(lambda m, batch: m.high(m.low(batch))), batch, memory)
        assert error.value.where == "here"


def whole_only(record):
    return lambda model, example, settings: record(model, example, replace(settings, is_whole=True))


def test_what_mixes_samples_is_refused_in_every_start_and_not_remembered():
    memory = Memory()
    model = Net(lambda m, batch: m.high(m.mid(m.low(batch) * (m.low(batch)[:1].abs().max() < 20))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    with pytest.raises(fl.NotCacheable):
        remembered_split(model, torch.randn(4, D), memory)
    assert memory == {}


def test_a_failure_that_no_way_explains_names_what_was_raised():
    model = Net(lambda m, batch: m.high(m.low(batch)))
    fl.freeze(model, through="low")
    error = failed_attempts.failure_of_all(model, x(4), [RuntimeError("shapes differ")])
    assert error.what == "The model's trainable part cannot be recorded or does not run on its own."
    assert "shapes differ" in str(error)


class Propagation(nn.Module):
    """A layer of a graph network: its neighbours are a sparse buffer."""

    def __init__(self, change=torch.Tensor.to_sparse):
        super().__init__()
        self.register_buffer("adjacency", change((torch.rand(D, D) > 0.5).float()))
        self.linear = nn.Linear(D, D)

    def forward(self, x_BD):
        return torch.sparse.mm(self.adjacency, self.linear(x_BD).t()).t()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("line", ["0", "1", "1.linear", "2.linear"])
def test_sparse_buffers_of_frozen_and_of_trainable_layers_are_split(line):
    rows = torch.Tensor.to_sparse_csr
    model = nn.Sequential(nn.Linear(D, D), Propagation(), Propagation(rows), nn.Linear(D, 3))
    fl.freeze(model, through=line)
    split = check(model, x(4))
    key = split.recipe["calls"]
    if line == "1":
        model[1].adjacency = (model[1].adjacency * 2).coalesce()
        assert fl.split(model, x(4)).recipe["calls"] != key
