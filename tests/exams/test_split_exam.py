"""The exam of splitting: its law finds a wrong head, its limits end a model, and a handful of models pass it."""

import json
import signal
import time

import pytest
import torch
from torch import nn

import frostline as fl
from exams.split import page, switches, timm_models, transformer_models
from exams.split.cases import BORDER, CUTS, INSIDE, RANDOM, Case, place
from exams.split.judging import CRASHED, EQUAL, EXACT, INVALID, REFUSED, WRONG, Verdict, judge
from exams.split.peers import EXPORT, FX, judge_peer, traced
from exams.split.trials import trial
from helpers_vision import import_torchvision

pytestmark = pytest.mark.filterwarnings("ignore")  # timm and transformers warn about their own configurations


class Net(nn.Module):
    """Four blocks and an output layer."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.2)) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def build(kind=Net):
    torch.manual_seed(0)
    return kind()


def example(count, seed):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


CASE = Case("switches", "net", "Net", build, example)


def freeze_top(model):
    fl.freeze(model, modules=[model.head])


def case_of(kind, name):
    import_torchvision()
    return next(case for case in kind.cases() if case.name == name)


@pytest.mark.parametrize(("kind", "name", "cut"), [
    (timm_models, "resnet", BORDER), (transformer_models, "GPT2", INSIDE),
    (switches, "returns a dict of losses: residual network", RANDOM),
    (switches, "autocast inside of forward: residual network", INSIDE),
])  # fmt: skip
def test_models_of_others_pass(kind, name, cut):
    verdict = judge(case_of(kind, name), cut)
    assert verdict.outcome in (EXACT, EQUAL), verdict.detail
    assert verdict.num_frozen_in_head == 0


def test_places_of_cuts():
    model = build()
    assert place(model, BORDER) == "blocks.1"
    assert place(model, INSIDE) == "blocks.2.0"
    assert CASE.frozen(RANDOM)[1] == CASE.frozen(RANDOM)[1]
    assert place(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), INSIDE) == "1"


def test_a_wrong_head_is_found(monkeypatch):
    made = fl.split

    def wrong(model, inputs):
        split = made(model, inputs)
        split.head.register_forward_hook(lambda _, __, output: output * 1.01)
        return split

    assert judge(CASE, BORDER).outcome in (EXACT, EQUAL)  # some processors round by the size of the batch
    monkeypatch.setattr(fl, "split", wrong)
    verdict = judge(CASE, BORDER)
    assert (verdict.outcome, verdict.detail[:8]) == (WRONG, "gradient")


def test_a_refusal_and_a_model_that_does_not_train_are_no_faults_of_the_head():
    upside_down = Case("switches", "net", "Net", build, example, freeze_top)
    refused = judge(upside_down, "its own")
    assert refused.outcome == REFUSED
    assert "Do:" in refused.detail
    broken = judge(Case("switches", "net", "Net", build, lambda count, seed: torch.randn(count, 5)), BORDER)
    assert broken.outcome == INVALID


class Branching(Net):
    def forward(self, x):
        return super().forward(x if x.sum() < 1e6 else -x)


@pytest.mark.parametrize(("kind", "peer", "outcome"), [
    (Net, FX, EXACT), (Net, EXPORT, EXACT), (Branching, FX, REFUSED), (Branching, EXPORT, REFUSED),
])  # fmt: skip
def test_graphs_of_others_are_cut_by_the_same_rule(kind, peer, outcome):
    case = Case("switches", "net", "Net", lambda: build(kind), example)
    graph = traced(case, peer)
    for cut in CUTS:
        assert judge_peer(case, cut, graph).outcome == outcome


class Counting(Net):
    """A graph holds the number of samples of its example."""

    def forward(self, x):
        return super().forward(x) * torch.ones(len(x), 1).sum()


def test_a_graph_that_is_wrong_is_found():
    case = Case("switches", "net", "Net", lambda: build(Counting), example)
    graph = traced(case, FX)
    assert judge_peer(case, BORDER, graph).outcome in (REFUSED, WRONG, CRASHED)


class Ending(Net):
    """Ends its process where the second block is frozen, and the third is not."""

    def forward(self, x):
        trains = [block[0].weight.requires_grad for block in self.blocks]
        if trains == [False, False, True, True]:
            signal.raise_signal(signal.SIGKILL)
        return super().forward(x)


def test_a_model_that_ends_its_process_is_a_verdict_and_the_other_cuts_are_judged():
    found = trial(Case("switches", "net", "Net", lambda: build(Ending), example), [BORDER, RANDOM], 60.0, 9)
    assert found[BORDER] == {"outcome": CRASHED, "detail": "the process ended by SIGKILL"}
    assert found[RANDOM]["outcome"] in (EXACT, EQUAL)


class Endless(Net):
    def forward(self, x):
        while True:
            x = x + 0


def test_a_model_that_takes_too_long_is_a_verdict():
    started = time.process_time()
    found = trial(Case("switches", "net", "Net", lambda: build(Endless), example), [BORDER], 1.0, 9)
    assert found[BORDER]["detail"] == "no result after 1 s of the processor"
    assert time.process_time() - started < 60


def test_verdicts_are_kept_after_each_model_and_become_a_page(tmp_path):
    store = tmp_path / "coverage.json"
    kept = page.Verdicts(store)
    refused = vars(Verdict(REFUSED, "Cannot cache 'a.b': noise.\nWhere:    a.b\nDo:       freeze it."))
    kept.keep(CASE, {BORDER: vars(Verdict(EXACT)), INSIDE: refused})
    kept.keep(CASE, {f"{FX}: {BORDER}": {"outcome": WRONG, "detail": ""}})
    assert set(json.loads(store.read_text())["switches"]["net"]["verdicts"]) == {BORDER, INSIDE, f"{FX}: {BORDER}"}
    assert set(page.Verdicts(store).of(CASE)) == {BORDER, INSIDE, f"{FX}: {BORDER}"}
    assert page.Verdicts(store).of(Case("switches", "net", "another", build, example)) == {}
    page.write(page.Verdicts(store), {"switches": [CASE]}, tmp_path / "coverage.md")
    text = (tmp_path / "coverage.md").read_text()
    assert "| net | Net | = | refused |  | 0 | wrong |  |" in text
    assert "* Cannot cache '...': noise. Do: freeze it.\n  (net, inside a block)" in text
    assert "refused" in page.line(CASE, {INSIDE: refused})
