"""What `heal` brings and what rivals say: rows apart, scores, shares of a gap, rules by hand, tables in pages."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exams.health.baselines.watch import Trace
from exams.published.__main__ import CASES
from exams.published.case import Training, epochs_of, perceptron
from exams.published.real_networks import HEALTHY, KINDS, build
from exams.published.repairs import Repair, kept_away, repair, score
from exams.published.rivals import Course, by_deepdiagnosis, by_umlaut, plain
from exams.published.tables import write

ROWS = torch.arange(200.0)[:, None].repeat(1, 3)


def training(loss_fn=F.cross_entropy, target=None, last=None, lr=1e-3, outputs=2):
    torch.manual_seed(0)
    model = perceptron(3, 4, outputs, last=last)
    batches = epochs_of(ROWS / 200, (torch.arange(200) % 2) if target is None else target, 20, 3)
    return Training(model, batches, loss_fn, torch.optim.SGD(model.parameters(), lr))


def test_a_fifth_of_the_distinct_rows_is_in_no_batch():
    batches, (inputs, target) = kept_away(epochs_of(ROWS, torch.arange(200), 20, 3))
    away, left = set(inputs[:, 0].tolist()), {value for x, _ in batches for value in x[:, 0].tolist()}
    assert 25 <= len(away) <= 55
    assert not away & left
    assert away | left == set(range(200))
    assert inputs[:, 0].tolist() == target.tolist()


def test_of_few_distinct_rows_none_is_kept_away():
    batches, (inputs, _) = kept_away(epochs_of(ROWS[:8], torch.arange(8), 4, 3))
    assert sum(len(x) for x, _ in batches) == 24
    assert len(inputs) == 8


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        (torch.eye(3), torch.tensor([0, 1, 0]), 2 / 3), (torch.eye(2), torch.tensor([0, -100]), 1.0),
        (torch.tensor([[0.9], [0.2]]), torch.tensor([[1.0], [0.0]]), 1.0),
        (torch.tensor([[3.0], [-1.0]]), torch.tensor([[1.0], [1.0]]), 0.5),
        (torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [4.0]]), 0.75), (torch.full((2, 2), torch.nan), ROWS, 0.0),
    ],
    ids="classes ignored probabilities logits values nan".split(),
)  # fmt: skip
def test_scores_are_right_answers_or_explained_variance(output, target, expected):
    one = Training(nn.Identity(), [], F.mse_loss, torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1))
    assert score(one, (output, target)) == pytest.approx(expected)


def test_healed_is_nine_tenths_of_the_gap():
    one = Repair(0.1, 0.9, 0.83, 0.9, (), (), True, True)
    assert one.closed == pytest.approx(0.9125)
    assert one.is_healed
    assert not one.is_harmed
    assert not replace(one, healed=0.8).is_healed
    assert replace(one, sick=0.88).closed is None
    assert replace(one, twin_healed=0.86).is_harmed


def test_a_bug_is_healed_and_its_twin_left_alone():
    one = repair(CASES["inputs_and_targets_as_they_are"])
    assert one.is_healed
    assert not one.is_harmed
    assert one.names_cause


def course(own, **trace):
    _, judged = kept_away(own.batches)
    return Course(own, judged, Trace(has_classes=True, **trace))


def test_the_plain_rule_sees_a_loss_that_is_nan_or_flat_or_a_poor_score():
    own = training()
    own.measure = lambda output, target: 1.0
    assert not plain(course(own, losses=[2.0] * 10 + [0.1] * 10)).is_any
    assert plain(course(own, losses=[2.0] * 10 + [float("nan")])).is_any
    assert plain(course(own, losses=[2.0] * 10 + [1.9] * 10)).is_any
    own.measure = lambda output, target: 0.55
    assert plain(course(own, losses=[2.0] * 10 + [0.1] * 10)).is_any


def test_umlaut_looks_at_structure_inputs_and_settings():
    usual = [1.0, 0.5]
    assert by_umlaut(course(training(), losses=usual)).families == ()
    assert by_umlaut(course(training(last=nn.Softmax(1)), losses=usual)).families == ("loss_mismatch",)
    assert by_umlaut(course(training(lr=0.5), losses=usual)).families == ("learning_rate",)
    own = training()
    own.model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Dropout(0.7))
    own.batches = [(300 * x, y) for x, y in own.batches]
    assert by_umlaut(course(own, losses=[float("nan")])).families == (
        "activation", "input_scale", "nonfinite", "dropout"
    )  # fmt: skip


def test_deepdiagnosis_looks_into_layers_and_at_the_range_of_the_output():
    target = torch.rand(200, 1) * 4 - 2
    own = training(F.mse_loss, target, nn.Sigmoid(), outputs=1)
    assert "loss_mismatch" in by_deepdiagnosis(course(own, losses=[1.0] * 40)).families
    dead = training()
    with torch.no_grad():
        dead.model[0].bias.fill_(-50.0)
    assert by_deepdiagnosis(course(dead, losses=[1.0] * 40)).families[0] == "dead_units"


def test_a_table_replaces_the_one_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- published: heal -->\nold\n<!-- end -->\nbetween\n<!-- published: rivals -->\n<!-- end -->\n"
    )
    write(page, "heal", ["| a |", "| b |"])
    write(page, "rivals", ["| c |"])
    assert page.read_text() == (
        "before\n<!-- published: heal -->\n\n| a |\n| b |\n\n<!-- end -->\nbetween\n"
        "<!-- published: rivals -->\n\n| c |\n\n<!-- end -->\n"
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "resnet18"])  # its images take a second each
def test_networks_of_usual_size_take_a_step(kind):
    assert len(KINDS[kind].faults) >= 3
    for what in (*KINDS[kind].faults, *HEALTHY[:2]):
        one = build(kind, what)
        inputs, target = (part[:4] for part in one.batches[0])
        one.loss_fn(one.model(inputs), target).backward()
        one.optimizer.step()
