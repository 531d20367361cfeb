"""What is advised of a loss and its output is done as written, and does not harm: it trains at least as well."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import probe_loss
from frostline.diagnosis.rules import loss_mismatch, target_scale
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.records import Evidence, OptimizerFacts, TargetFacts

D, C = 6, 4


def data(kind, count=512, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, D, generator=generator)
    classes = (inputs @ torch.randn(D, C, generator=torch.Generator().manual_seed(9))).argmax(1)
    target = {
        "classes": classes, "labels": (classes[:, None] > 1).float(), "sides": 2 * (classes[:, None] > 1).float() - 1,
        "several": (inputs[:, :C] > 0).float(), "values": inputs[:, :1] + inputs[:, 1:2],
        "flat values": inputs[:, 0] + inputs[:, 1],
    }[kind]  # fmt: skip
    return inputs, target


def body(outputs, *last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def trained(model, loss_fn, kind, steps=300, lr=0.1):
    """How well the sign, or the largest, of its answers is right."""
    inputs, target = data(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(model(inputs), target).backward()
        optimizer.step()
    unseen, wanted = data(kind, seed=1)
    with torch.no_grad():
        answers = model(unseen)
    assert torch.isfinite(answers).all()
    if kind == "classes":
        return float((answers.argmax(1) == wanted).float().mean())
    if kind in ("values", "flat values"):
        return 1 - float(F.mse_loss(answers.reshape(-1), wanted.reshape(-1)) / wanted.var())
    last = type(model[-1])
    middle = 0.5 if last in (nn.Sigmoid, nn.Softmax) else 0.0
    return float(((answers > middle) == (wanted > 0.5 if kind != "sides" else wanted > 0)).float().mean())


def advice(model, loss_fn, kind):
    inputs, target = data(kind)
    (finding,) = loss_mismatch.check(Evidence(loss=probe_loss(loss_fn, model(inputs), target)))
    return finding.advice if finding.outcome in {"issue", "tip"} else ""


def softmax_then_entropy(output, target):
    return F.cross_entropy(output.softmax(1), target)


def squared(output, target):
    return ((output - target) ** 2).mean()


def turned(output, target):
    return -F.cross_entropy(output, target).clamp(max=50)


LOGITS, LOGS = (lambda: (body(C), F.cross_entropy)), (lambda: (body(C, nn.LogSoftmax(1)), F.nll_loss))
# (how it is, what it is trained by, targets, words of the advice, what these words ask for)
SICK = [
    (lambda: body(C, nn.Softmax(1)), F.nll_loss, "classes", "log_softmax", LOGS),
    (lambda: body(C, nn.Softmax(1)), F.cross_entropy, "classes", "remove the model's last activation", LOGITS),
    (lambda: body(C), softmax_then_entropy, "classes", "remove it", LOGITS),
    (lambda: body(C), F.nll_loss, "classes", "log-probabilities", LOGS),
    (lambda: body(C, nn.Sigmoid()), F.nll_loss, "classes", "log-probabilities", LOGS),
    (lambda: body(C, nn.ReLU()), F.cross_entropy, "classes", "last ReLU", LOGITS),
    (lambda: body(1, nn.Sigmoid()), F.binary_cross_entropy_with_logits, "labels", "remove the model's last activation",
     lambda: (body(1), F.binary_cross_entropy_with_logits)),
    (lambda: body(C, nn.Softmax(1)), F.binary_cross_entropy, "several", "end the model in a sigmoid",
     lambda: (body(C, nn.Sigmoid()), F.binary_cross_entropy)),
    (lambda: body(1, nn.Sigmoid()), F.mse_loss, "values", "without an activation", lambda: (body(1), F.mse_loss)),
    (lambda: body(1, nn.Flatten(0)), squared, "values", "output.reshape(target.shape)",
     lambda: (body(1, nn.Flatten(0)), lambda output, target: squared(output.reshape(target.shape), target))),
    (lambda: body(1), squared, "flat values", "output.reshape(target.shape)",
     lambda: (body(1), lambda output, target: squared(output.reshape(target.shape), target))),
    (lambda: body(C), turned, "classes", "check the sign", LOGITS),
]  # fmt: skip


@pytest.mark.parametrize(("build", "loss_fn", "kind", "words", "follow"), SICK)
def test_the_advice_as_written_runs_and_trains_no_worse(build, loss_fn, kind, words, follow):
    told = advice(build(), loss_fn, kind)
    assert words in told
    model, better = follow()
    after = trained(model, better, kind)
    diverges = loss_fn is turned or (loss_fn is F.nll_loss and type(build()[-1]) is nn.Linear)
    before = 0.0 if diverges else trained(build(), loss_fn, kind)
    assert after >= before - 0.02
    assert after > 0.8


@pytest.mark.parametrize(
    ("build", "loss_fn", "kind"),
    [
        (lambda: body(1, nn.Sigmoid()), lambda o, t: -(o * t + (1 - o) * (1 - t)).mean(), "labels"),
        (lambda: body(1, nn.Tanh()), lambda o, t: -(o * t).mean(), "sides"),
        (lambda: body(1, nn.Sigmoid()), lambda o, t: (t - o).abs().mean(), "labels"),
        (lambda: body(1, nn.Sigmoid()), F.mse_loss, "labels"),
        (lambda: body(1, nn.Sigmoid()), F.binary_cross_entropy, "labels"),
        (lambda: body(C, nn.Sigmoid()), F.binary_cross_entropy, "several"),
        (lambda: body(C, nn.Softmax(1)), lambda o, t: (F.one_hot(t, C) - o).square().sum(1).mean(), "classes"),
        (lambda: body(C, nn.Softmax(1)), lambda o, t: F.nll_loss((o + 1e-9).log(), t), "classes"),
    ],
)
def test_a_range_that_is_all_that_bounds_the_loss_is_not_to_be_taken_away(build, loss_fn, kind):
    assert "remove the model's last activation" not in advice(build(), loss_fn, kind)


def test_softmax_before_nll_loss_is_an_issue_with_a_cause():
    inputs, target = data("classes")
    batches = [(inputs[at : at + 32], target[at : at + 32]) for at in range(0, 512, 32)] * 4
    model = body(C, nn.Softmax(1))
    found = fl.checkup(model, batches, F.nll_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.cause == "loss_mismatch"
    assert "log_softmax" in found.findings[0].advice
    assert "raw values" not in str(found)


# Targets in another unit

COUNTS = torch.poisson(torch.full((64, 1), 80.0), generator=torch.Generator().manual_seed(0))


def shifts(loss_fn, target=COUNTS):
    return probe_loss(loss_fn, torch.randn(64, 1, generator=torch.Generator().manual_seed(1)), target)


@pytest.mark.parametrize(
    ("loss_fn", "degree"), [(F.mse_loss, 2.0), (F.l1_loss, 1.0), (F.huber_loss, 1.0), (F.smooth_l1_loss, 1.0)]
)
def test_losses_of_errors_stay_where_all_is_shifted(loss_fn, degree):
    facts = shifts(loss_fn)
    assert facts.follows_shift
    assert facts.degree == degree


def relative(output, target):
    return ((output - target).abs() / target.abs()).mean()


def logarithmic(output, target):
    return F.mse_loss(output.clamp_min(0).log1p(), target.log1p())


@pytest.mark.parametrize("loss_fn", [F.poisson_nll_loss, relative, logarithmic])
def test_counts_and_ratios_are_not_to_be_standardised(loss_fn):
    facts = shifts(loss_fn)
    assert not facts.follows_shift
    (finding,) = target_scale.check(Evidence(targets=TargetFacts(80.0, 9.0), loss=facts))
    assert finding.outcome == "not applicable"


def test_targets_of_squared_error_still_want_another_unit():
    evidence = Evidence(targets=TargetFacts(80.0, 9.0), loss=shifts(F.mse_loss))
    (finding,) = target_scale.check(evidence)
    assert finding.outcome == "issue"
    assert "fl.remedies.rescale_outputs(model, loader, mean=80, deviation=9)" in finding.advice
    assert "with the learning rate divided by 81" in finding.advice


def test_adaptive_optimizers_keep_their_rate():
    facts = LossFacts("values", follows_shift=True)
    steers = OptimizerFacts(lr=1e-3, is_scale_free=True)
    (finding,) = target_scale.check(Evidence(targets=TargetFacts(80.0, 9.0), loss=facts, optimizer=steers))
    assert "learning rate" not in finding.advice


def test_plain_sgd_at_the_advised_rate_trains():
    inputs, target = data("values")
    wide = 500 + 90 * target
    evidence = Evidence(targets=TargetFacts(float(wide.mean()), float(wide.std())), loss=shifts(F.mse_loss, wide[:64]))
    (finding,) = target_scale.check(evidence)
    model, loader = body(1), [(inputs, wide)]
    call = finding.advice.partition("do that: ")[2].partition(", with the")[0]
    rate = 0.1 / float(finding.advice.partition("divided by ")[2].partition(". ")[0])
    eval(call, {"fl": fl, "model": model, "loader": loader})
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(300):
        optimizer.zero_grad()
        F.mse_loss(model(inputs), wide).backward()
        optimizer.step()
    assert float(F.mse_loss(model(inputs).detach(), wide) / wide.var()) < 0.1
