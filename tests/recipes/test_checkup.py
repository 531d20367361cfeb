import copy
import dataclasses
import math
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.experiments import budget as budget_module
from helpers_health import CLASSES, mlp, sgd, sick_sigmoids, task
from remedies.surgeon import fingerprint, same, untouched


class Transformer(nn.Module):
    """Each feature is a token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Linear(3, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.body(self.embed(x.reshape(-1, 4, 3))).mean(1))


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.lstm, self.out = nn.LSTM(3, 16, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.lstm(x.reshape(-1, 4, 3))[0][:, -1])


def convolutions(momentum=0.1):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=momentum), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=momentum), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, CLASSES),
    )  # fmt: skip


def issues(diagnosis):
    return {finding.code for finding in diagnosis.findings if finding.outcome == "issue"}


@pytest.mark.parametrize("build", [mlp, convolutions, Transformer, Reads])
def test_a_healthy_network_has_no_issue(build):
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    diagnosis = fl.checkup(model, task(100), F.cross_entropy, optimizer)
    assert diagnosis.is_healthy, str(diagnosis)
    assert diagnosis.cause is None


def test_a_deep_sigmoid_network_vanishes():
    model = sick_sigmoids()
    diagnosis = fl.checkup(model, task(100), F.cross_entropy, sgd(model, lr=0.01))
    assert diagnosis.cause == "vanishing"
    assert diagnosis.findings[0].code == "FL101"
    assert "With a fix (" in diagnosis.findings[0].why
    assert str(diagnosis).endswith("Cause: vanishing")


def test_softmax_before_cross_entropy_does_not_fit():
    model = nn.Sequential(mlp(), nn.Softmax(1))
    diagnosis = fl.checkup(model, task(40), F.cross_entropy, sgd(model))
    assert diagnosis.cause == "loss_mismatch"
    assert diagnosis.findings[0].code == "FL503"


def test_rows_that_are_not_finite_are_named():
    data = task(40)
    data[20][0][3] = math.nan
    model = mlp()
    diagnosis = fl.checkup(model, data, F.cross_entropy, sgd(model))
    assert diagnosis.cause == "nonfinite"
    finding = diagnosis.findings[0]
    assert (finding.code, finding.layer) == ("FL502", "input")
    assert "samples 3 of the batch" in finding.why


def test_statistics_that_lag_behind_are_the_cause():
    model = convolutions(momentum=0.001)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.bias.fill_(20.0)  # far from the statistics that a BatchNorm starts with
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, sgd(model))
    assert diagnosis.cause == "batchnorm"
    assert diagnosis.findings[0].code == "FL601"


@pytest.mark.parametrize("build", [sick_sigmoids, convolutions, lambda: nn.Sequential(mlp(), nn.Dropout(0.5))])
@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_as_it_was(build, mode):
    model = build().train(mode)
    optimizer = sgd(model)
    data = task(12)
    F.cross_entropy(model(data[0][0]), data[0][1]).backward()
    optimizer.step()
    gradients = [copy.deepcopy(p.grad) for p in model.parameters()]
    before = fingerprint(model, optimizer)
    with untouched(model):
        fl.checkup(model, data, F.cross_entropy, optimizer)
    assert same(fingerprint(model, optimizer), before)
    assert all(same(p.grad, kept) for p, kept in zip(model.parameters(), gradients, strict=True))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_same_again():
    model = sick_sigmoids()
    optimizer = sgd(model)
    first, second = (fl.checkup(model, task(20), F.cross_entropy, optimizer) for _ in range(2))
    assert first == second


def test_without_an_optimizer_the_learning_rate_is_not_judged():
    diagnosis = fl.checkup(mlp(), iter(task(30)), F.cross_entropy, steps=20)
    assert diagnosis.cause is None
    assert "learning_rate" not in {f.family for f in diagnosis.findings if f.outcome == "issue"}


def test_what_cannot_be_checked_is_said():
    model = mlp()
    with pytest.raises(fl.DataError, match="There are too few batches"):
        fl.checkup(model, [], F.cross_entropy)
    with pytest.raises(fl.DataError, match="The loss is not a scalar"):
        fl.checkup(model, task(3), lambda out, y: F.cross_entropy(out, y, reduction="none"))
    with pytest.raises(fl.DataError):
        fl.checkup(model, [1, 2, 3], F.cross_entropy)
    assert model[0].weight.grad is None


def test_a_frozen_model_has_nothing_to_check():
    model = mlp().requires_grad_(False)
    with pytest.raises(fl.DataError, match="The model has nothing to train: every parameter is frozen"):
        fl.checkup(model, task(4), F.cross_entropy)


def test_steps_that_are_too_small_are_not_called_too_large():
    model = mlp()
    diagnosis = fl.checkup(model, task(40), F.cross_entropy, torch.optim.SGD(model.parameters(), lr=1e-5))
    assert diagnosis.cause == "learning_rate"
    assert [finding.code for finding in diagnosis.findings if finding.outcome == "issue"] == ["FL402"]


def test_what_helps_once_only_is_not_the_cause(monkeypatch):
    checking = sys.modules["frostline.recipes.checkup"]
    asked = []
    attempt = checking.Examination.attempt

    def lucky(self, suspicion, **options):
        asked.append(self.seed)
        trial = attempt(self, suspicion, **options)
        return trial if self.seed == 0 else dataclasses.replace(trial, gain=-0.1)

    monkeypatch.setattr(checking.Examination, "attempt", lucky)
    model = sick_sigmoids()
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, sgd(model, lr=0.01))
    assert [one.code for one in diagnosis.findings if one.outcome == "issue"] in ([], ["FL517"])
    assert diagnosis.cause is None
    assert 1 in asked


def test_a_treatment_that_cannot_be_tried_does_not_end_the_checkup():
    torch.manual_seed(3)
    layers = [layer for _ in range(6) for layer in (nn.Linear(12, 12), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(12, CLASSES))  # BatchNorm cannot train on one sample
    fl.checkup(model, task(60, size=1), F.cross_entropy, sgd(model))


def test_frozen_statistics_that_move_without_harm_are_no_issue():
    model = convolutions()
    optimizer = sgd(model)
    model[2].requires_grad_(False)
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, optimizer)
    assert diagnosis.is_healthy


def test_log_probabilities_and_nll_fit():
    model = nn.Sequential(mlp(), nn.LogSoftmax(1))
    assert fl.checkup(model, task(60), F.nll_loss, sgd(model)).is_healthy


def halves(model):
    return model.bfloat16(), [(inputs.bfloat16(), target) for inputs, target in task(12)]


@pytest.mark.parametrize("call", [fl.checkup, fl.heal])
def test_an_optimizer_of_another_model_is_refused(call):
    with pytest.raises(fl.DataError, match=r"The optimizer does not hold the model's parameters \(FL405\)"):
        call(mlp(), task(12), F.cross_entropy, sgd(mlp()))


@pytest.mark.parametrize("call", [fl.checkup, fl.heal])
def test_bad_input_is_said(call):
    model = mlp()
    with pytest.raises(fl.DataError, match="There are too few batches"):
        call(model, iter(task(1)), F.cross_entropy, sgd(model))
    with pytest.raises(fl.DataError, match="The loss is not a scalar"):
        call(model, task(12), lambda out, y: F.cross_entropy(out, y, reduction="none"), sgd(model))
    with pytest.raises(fl.DataError, match="backward cannot run"):
        call(model, task(12), lambda out, y: F.cross_entropy(out.detach(), y), sgd(model))
    with pytest.raises(fl.DataError, match="no parameters"):
        call(nn.ReLU(), task(12), F.cross_entropy, sgd(model))
    optimizer = sgd(model)
    with pytest.raises(fl.DataError, match="nothing to train"):
        call(model.requires_grad_(False), task(12), F.cross_entropy, optimizer)


@pytest.mark.parametrize("call", [fl.checkup, fl.heal])
def test_half_precision_and_sparse_gradients_are_taken(call):
    model, data = halves(mlp())
    call(model, data, F.cross_entropy, sgd(model))
    torch.manual_seed(0)
    words = nn.Sequential(nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, CLASSES))
    ids = [(torch.randint(50, (16, 6)), target) for _, target in task(12)]
    call(words, ids, F.cross_entropy, torch.optim.SGD(words.parameters(), lr=0.1))


def test_batches_that_run_out_are_said():
    with pytest.raises(fl.DataError, match="The batches ran out") as caught:
        fl.checkup(mlp(), task(4), F.cross_entropy, steps=50)
    assert caught.value.received == "4 batches"


def test_half_precision_is_not_blamed_for_our_own_optimizer():
    model, data = halves(mlp())
    diagnosis = fl.checkup(model, data, F.cross_entropy)
    assert not any(finding.code == "FL502" for finding in diagnosis.findings)


def test_hooks_of_other_tools_stay():
    model, calls = mlp(), []
    handle = model[0].register_forward_hook(lambda *_: calls.append(None))
    fl.checkup(model, task(12), F.cross_entropy, sgd(model))
    assert list(model[0]._forward_hooks) == [handle.id]


def test_targets_far_from_what_a_new_network_answers_are_the_cause():
    data = [(inputs, 150 + 80 * (inputs[:, :1] - inputs[:, 1:2])) for inputs, _ in task(80)]
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    diagnosis = fl.checkup(model, data, F.mse_loss, torch.optim.Adam(model.parameters(), lr=3e-3))
    first = diagnosis.findings[0]
    assert (first.code, first.outcome) == ("FL505", "issue")
    assert "outputs in the unit of the targets" in first.why
    assert "rescale_outputs(model, loader, mean=" in first.advice


def test_answers_that_belong_to_other_inputs_are_no_clean_bill_of_health():
    data = task(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = [(inputs, data[at][1]) for (inputs, _), at in zip(data, order, strict=True)]
    model = mlp()
    diagnosis = fl.checkup(model, shuffled, F.cross_entropy, torch.optim.Adam(model.parameters(), lr=1e-3))
    assert diagnosis.is_healthy
    assert [finding.code for finding in diagnosis.findings if finding.code == "FL404"] == ["FL404"]
    assert "every input still belongs to its target" in str(diagnosis)


@pytest.mark.parametrize("scaler", ["scaler", 2.0, torch.amp.GradScaler])
def test_what_is_no_scaler_is_refused(scaler):
    with pytest.raises(fl.DataError, match="That is no scaler of gradients"):
        fl.checkup(mlp(), task(30), F.cross_entropy, scaler=scaler)


def spent_at_once(monkeypatch):
    """A clock on which every look costs a second."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(budget_module, "clock_of", lambda _: lambda: float(next(ticks)))


def test_what_the_budget_has_no_room_for_is_not_judged(monkeypatch):
    spent_at_once(monkeypatch)
    model = sick_sigmoids()
    diagnosis = fl.checkup(model, task(100), F.cross_entropy, sgd(model, lr=0.01), budget=1e-3)
    assert diagnosis.cause is None
    left = {one.code: one.why for one in diagnosis.not_judged}
    assert left["FL101"].startswith("the budget of 0.001 s was spent before these were tried: ")
    assert "new weights by the activation that follows" in left["FL101"]
    assert "checkup(..., budget=" in left["FL101"]
    assert any(one.code == "FL101" and "No fix was tried: the budget" in one.why for one in diagnosis.findings)
    assert "training may be fine" not in str(diagnosis)


def test_a_budget_that_is_large_changes_nothing():
    model = sick_sigmoids()
    least, most = (
        fl.checkup(model, task(100), F.cross_entropy, sgd(model, lr=0.01), budget=budget) for budget in (None, 1e6)
    )
    assert str(least) == str(most)
    assert least.cause == "vanishing"


def test_an_interruption_returns_what_is_known(monkeypatch):
    calls = []

    class Interrupted(nn.Module):
        def __init__(self, body, at):
            super().__init__()
            self.body, self.at = body, at

        def forward(self, x):
            if self.training:
                calls.append(1)
                if len(calls) == self.at:
                    raise KeyboardInterrupt
            return self.body(x)

    for at, has_trial in ((60, False), (160, True)):  # while it is watched, and in a trial
        calls.clear()
        model = Interrupted(sick_sigmoids(), at)
        diagnosis = fl.checkup(model, task(100), F.cross_entropy, sgd(model, lr=0.01))
        assert len(calls) < 220, has_trial
        assert any(finding.code == "FL101" for finding in diagnosis.findings)
        assert any("the checkup was interrupted before" in one.why for one in diagnosis.not_judged)
    assert "Could not be evaluated" in str(diagnosis)


def test_progress_goes_to_standard_error_if_it_is_wanted(monkeypatch, capsys):
    monkeypatch.setattr(budget_module, "_QUIET_S", 0.0)
    model = mlp()
    fl.checkup(model, task(30), F.cross_entropy, sgd(model), progress=False)
    assert capsys.readouterr() == ("", "")
    fl.checkup(model, task(30), F.cross_entropy, sgd(model))
    out, told = capsys.readouterr()
    assert not out
    assert told.startswith("checkup: about ")


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers, self.out = [nn.Linear(12, 12), nn.Linear(12, 12)], nn.Linear(12, CLASSES)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(x)


def clipped_at_0(model):
    optimizer = sgd(model)

    def clip(one, *_):
        nn.utils.clip_grad_norm_([p for group in one.param_groups for p in group["params"]], 0.0)

    optimizer.register_step_pre_hook(clip)
    return optimizer


@pytest.mark.parametrize(
    ("build", "make", "code", "cause"),
    [
        (Listed, sgd, "FL405", "wiring"),
        (mlp, clipped_at_0, "FL406", "learning_rate"),
        (mlp, lambda model: sgd(model, lr=0.0), "FL406", "learning_rate"),
        (lambda: convolutions().eval(), sgd, "FL604", "mode"),
    ],
)
def test_what_is_certain_is_told_first_and_nothing_is_tried(build, make, code, cause, monkeypatch):
    monkeypatch.setattr(sys.modules["frostline.recipes.checkup"], "prove", lambda *_: pytest.fail("a trial was made"))
    model = build()
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, make(model))
    assert diagnosis.cause == cause
    assert (diagnosis.findings[0].code, diagnosis.findings[0].outcome) == (code, "issue")
    assert str(diagnosis).endswith(f"Cause: {cause}")


def test_dropout_that_never_ends_is_told():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp()

        def forward(self, x):
            return self.body(F.dropout(x, 0.2))

    model = Noisy()
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, sgd(model))
    assert [one.outcome for one in diagnosis.findings if one.code == "FL605"] == ["tip"]
    assert diagnosis.is_healthy


MEMO = {}


class Remembering(nn.Module):
    """It adds the mean of the first batch, which it keeps in a global."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, inputs):
        if "first" not in MEMO:
            MEMO["first"] = inputs.mean()
        return self.body(inputs + MEMO["first"])


def test_what_a_model_keeps_in_a_global_is_not_that_of_a_checkup():
    MEMO.clear()
    fl.checkup(Remembering(), task(20), F.cross_entropy, progress=False)
    assert MEMO == {}
