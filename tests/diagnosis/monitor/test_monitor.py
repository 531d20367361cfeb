import contextlib
import itertools
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline import Monitor
from frostline.diagnosis.monitor import monitor as monitoring
from frostline.diagnosis.monitor.overhead import Account
from helpers_health import codes, mlp, outcome, run, sgd, sick_sigmoids, task, watched

# --- What it says of networks


def test_a_deep_sigmoid_network_vanishes_at_its_first_layer():
    monitor = watched(sick_sigmoids())
    assert "FL101" in codes(monitor, "issue")
    assert next(f.layer for f in monitor.findings if f.code == "FL101") == "0"


def test_a_healthy_network_has_no_issue():
    monitor = watched(mlp())
    assert codes(monitor, "issue") == set()
    assert monitor.diagnosis.is_healthy


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda model: [nn.init.constant_(p, 0.1) for p in model.parameters()], "FL301"),
        (lambda model: [nn.init.constant_(m.bias, -50.0) for m in model[:-1] if hasattr(m, "bias")], "FL201"),
        (lambda model: [p.mul_(30) for p in model.parameters()], "FL102"),
    ],
    ids=["symmetric", "dead", "exploding"],
)
def test_main_sicknesses(change, code):
    model = mlp(4)
    with torch.no_grad():
        change(model)
    assert code in codes(watched(model, sgd(model, lr=1e-6)), "issue")


def test_saturated_units():
    model = mlp(3, activation=nn.Tanh)
    with torch.no_grad():
        [p.mul_(30) for p in model.parameters()]
    assert "FL202" in codes(watched(model), "issue")


def test_rows_that_are_not_finite_are_named():
    data = task(10)
    data[4][0][3, 1] = float("nan")
    monitor = watched(mlp(), data=data, every=1)
    finding = next(f for f in monitor.findings if f.code == "FL502")
    assert finding.layer == "input"
    assert "step 4" in finding.why
    assert "samples 3" in finding.why


# --- Steps, gradients and losses


def test_records_at_every_nth_step_with_their_losses():
    told = []
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=7, budget=1e9) as monitor:
        for inputs, target in task(30):
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
            told.append(loss.item())
    assert [record.step for record in monitor.records] == [0, 7, 14, 21, 28]
    assert [record.loss for record in monitor.records] == [told[at] for at in (0, 7, 14, 21, 28)]
    assert monitor.evidence.losses == tuple(enumerate(told))
    assert monitor.samples == (5, 5)


def test_the_overhead_is_the_monitors_share_of_the_time(monkeypatch):
    now = itertools.count()  # every look at the clock takes a second
    monkeypatch.setattr(monitoring, "Account", lambda: Account(lambda: float(next(now))))
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=7, budget=1e9) as monitor:
        for inputs, target in task(30):
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            for _ in range(1000):  # the loop's own time
                next(now)
            monitor.step(loss)
    assert 0 < monitor.overhead < 0.2


def test_gradients_are_read_as_the_optimizer_uses_them():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=1) as monitor:
        for inputs, target in task(3):
            F.cross_entropy(model(inputs), target).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            optimizer.zero_grad()
    assert all(record.gradient_norm == pytest.approx(1e-3, rel=1e-2) for record in monitor.records)


def test_without_an_optimizer_step_reads_the_gradients():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, every=2, budget=1e9) as monitor:
        for inputs, target in task(20):
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            monitor.step(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    assert len(monitor.records) == 10
    assert all(record.gradient_norm > 0 for record in monitor.records)
    assert all(record.loss is not None for record in monitor.records)
    assert monitor.unseen == ()
    assert outcome(monitor, "FL504") == {"not applicable"}


def test_accumulation_on_purpose_is_not_flagged():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=2) as monitor:
        for at, (inputs, target) in enumerate(task(40)):
            loss = F.cross_entropy(model(inputs), target) / 4
            loss.backward()
            if at % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
                monitor.step(loss)
    assert outcome(monitor, "FL504") == {"passed"}
    assert codes(monitor, "issue") == set()


def test_a_forgotten_zero_grad_is_flagged():
    assert "FL504" in codes(watched(mlp(), clears=False), "issue")


def test_a_loss_that_is_no_scalar_is_refused():
    with Monitor(mlp()) as monitor, pytest.raises(fl.DataError, match="The loss is not a scalar"):
        monitor.step(torch.ones(3))


def test_a_loss_may_be_told_before_its_step_or_for_every_part_of_it():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=3, budget=1e9) as monitor:
        for at, (inputs, target) in enumerate(task(20)):
            F.cross_entropy(model(inputs), target).backward()
            monitor.step(float(at // 2))
            if at % 2:
                optimizer.step()
                optimizer.zero_grad()
    assert [(record.step, record.loss) for record in monitor.records] == [(0, 0.0), (3, 3.0), (6, 6.0), (9, 9.0)]


# --- Where nothing can be said, nothing is said


def test_no_step_is_no_verdict():
    model = mlp()
    with Monitor(model, sgd(model)) as monitor:
        pass
    assert monitor.findings == ()
    assert monitor.diagnosis.passed == ()
    assert "the optimizer's step() was not called" in str(monitor.diagnosis)


def test_a_loop_that_never_calls_step_is_told_to():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model) as monitor:
        run(model, optimizer)
    assert monitor.records == ()
    assert "monitor.step(loss)" in str(monitor.diagnosis)
    assert not str(monitor.diagnosis).startswith("Healthy")


def test_backward_that_never_runs_is_said():
    model = sick_sigmoids()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=1) as monitor:
        for inputs, _ in task(12):
            model(inputs)
            optimizer.step()
    assert "no gradients were seen: backward() did not run" in " ".join(monitor.unseen)
    assert {code: outcome(monitor, code) for code in ("FL103", "FL401", "FL402", "FL504")} == {
        "FL103": {"not applicable"}, "FL401": {"not judged"}, "FL402": {"not judged"}, "FL504": {"not applicable"},
    }  # fmt: skip
    assert all("gradient" not in finding.why for finding in monitor.findings)


@pytest.mark.parametrize("has_optimizer", [True, False])
def test_a_network_that_was_not_seen_to_train_is_not_called_healthy(has_optimizer):
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer if has_optimizer else None, every=2) as monitor:
        for inputs, target in task(12):
            loss = nn.functional.cross_entropy(model(inputs), target)
            optimizer.step()
            monitor.step(loss)
    assert not [finding for finding in monitor.diagnosis.passed if finding.outcome == "passed"]
    assert "no gradients were seen: backward() did not run" in str(monitor.diagnosis)


def test_zero_grad_before_monitor_step_is_said():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, every=2) as monitor:
        run(model, optimizer, monitor)
    assert "zero_grad() came before monitor.step(loss)" in " ".join(monitor.unseen)


# --- Errors


def test_an_error_in_the_block_leaves_no_hooks_and_closes_the_file(tmp_path):
    model = mlp()
    optimizer = sgd(model)
    with (
        pytest.raises(KeyError, match="mine"),
        Monitor(model, optimizer, every=1, path=tmp_path / "health.jsonl") as monitor,
    ):
        run(model, optimizer, monitor, task(3))
        raise KeyError("mine")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not (optimizer._optimizer_step_pre_hooks)
    assert not (optimizer._optimizer_step_post_hooks)
    assert len((tmp_path / "health.jsonl").read_text().splitlines()) == 3


def test_between_samples_only_steps_are_counted():
    model, seen = mlp(), []
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=5, budget=1e9) as monitor:
        for batch in task(20):
            hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
            seen.append((sum(hooks) > 0, len(optimizer._optimizer_step_pre_hooks)))
            run(model, optimizer, monitor, [batch])
    assert seen == [(True, 1), *[(False, 0)] * 4] * 4


def test_a_logger_that_fails_leaves_no_hooks():
    model = mlp()
    optimizer = sgd(model)

    def fails(*_):
        raise OSError("full")

    with contextlib.suppress(OSError), Monitor(model, optimizer, every=1, log=fails) as monitor:
        run(model, optimizer, monitor)
    assert not any(module._forward_hooks for module in model.modules())


def test_settings_that_make_no_sense():
    model = mlp()
    with pytest.raises(fl.DataError, match="The monitor needs a distance between samples"):
        Monitor(model, every=0)
    with pytest.raises(fl.DataError, match=r"The optimizer does not hold the model's parameters \(FL405\)"):
        Monitor(model, sgd(mlp()))
    with pytest.raises(fl.DataError, match="The model has nothing to train: there are no gradients to watch"):
        Monitor(mlp().requires_grad_(False))


# --- Memory, files, logs


def test_memory_stays_bounded_over_a_long_run():
    model = nn.Linear(1, 1)
    optimizer = sgd(model, lr=0.0)
    x = torch.ones(2, 1)
    with Monitor(model, optimizer, every=20, budget=1e9) as monitor:
        for _ in range(10_500):
            loss = model(x).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
    assert len(monitor.records) == 500
    assert [record.step for record in monitor.records][:50] == list(range(0, 1000, 20))
    assert monitor.records[-1].step == 10_480
    assert len(monitor.evidence.losses) == 10_000
    assert not monitor._unread_losses
    assert not monitor._unwritten
    assert not monitor._laboratory._waiting


def test_beyond_its_budget_it_leaves_samples_out_and_still_hears_losses():
    model = nn.Linear(1, 1)
    optimizer = sgd(model, lr=0.0)
    x = torch.ones(2, 1)
    with Monitor(model, optimizer, every=1, budget=0.0) as monitor:
        for at in range(2_500):
            loss = model(x).mean() * 0 + at
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
            assert len(monitor._unread_losses) < 1_000
    assert monitor.samples == (10, 2_501)
    assert [record.loss for record in monitor.records] == list(range(10))
    assert len(monitor.evidence.losses) == 2_500


def test_near_its_budget_it_leaves_out_outputs_first(monkeypatch):
    bill = {"spent": 0.0}
    monkeypatch.setattr(Account, "elapsed_s", property(lambda _: 100.0))  # of which 3 may be spent
    monkeypatch.setattr(Account, "spent_s", property(lambda _: bill["spent"]))
    model, seen = mlp(), []
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=1) as monitor:
        for spent in (0.0, 1.4, 1.6, 2.9, 3.1):
            bill["spent"] = spent
            run(model, optimizer, monitor, task(10))
    for record in monitor.records:
        seen.append((record.step // 10, any(s.mean is not None for s in record.layers)))
        assert record.gradient_norm > 0
    assert [seen.count(key) for key in ((0, True), (1, True), (2, True), (2, False), (3, False))] == [10, 10, 1, 9, 10]
    assert monitor.samples == (41, 51)
    assert monitor.unseen == ()


def test_every_line_of_the_file_is_json(tmp_path):
    data = task(12)
    data[5][0][0] = float("inf")
    monitor = watched(mlp(), data=data, every=1, path=tmp_path / "health.jsonl")
    lines = (tmp_path / "health.jsonl").read_text().splitlines()
    read = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert len(read) == len(monitor.records) == 12
    assert read[5]["nonfinite"] == "input"
    assert read[6]["gradient_norm"] is None
    assert read[0]["gradient_norm"] == pytest.approx(monitor.records[0].gradient_norm)


def test_a_logger_is_told_the_gradients_by_layer():
    told = []
    watched(mlp(), every=20, log=lambda numbers, step: told.append((step, set(numbers))))
    names = {f"{layer}/gradient_norm" for layer in ("0", "2", "4", "6")}
    assert told == [(0, names), (20, names)]


def test_what_is_no_loss_or_no_dense_parameter_is_refused():
    with Monitor(mlp()) as monitor, pytest.raises(fl.DataError, match="The loss is not a scalar"):
        monitor.step(None)
    model = mlp()
    model.extra = nn.Parameter(torch.eye(3).to_sparse())
    with pytest.raises(fl.DataError, match="A parameter is a sparse tensor"):
        Monitor(model)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, "adam"])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(fl.DataError, match="The monitor cannot listen to that optimizer"):
        Monitor(mlp(), optimizer)


def test_a_layer_whose_shape_is_not_known_yet_is_named():
    with pytest.raises(fl.DataError, match="The model has a layer whose shape is not known yet") as error:
        Monitor(nn.Sequential(nn.LazyLinear(3)))
    assert error.value.where == "0.weight"


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_a_scripted_module_is_refused_in_four_parts():
    layer = torch.jit.script(nn.Linear(2, 2))
    for model, place in ((layer, "a ScriptModule"), (nn.Sequential(nn.ReLU(), layer), "a ScriptModule at '1'")):
        with pytest.raises(fl.DataError, match="takes no hooks") as error:
            fl.Monitor(model)
        assert error.value.received == place


def test_the_input_is_seen_as_the_loop_passes_it():
    model = mlp()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 1000,))
    assert watched(model, sgd(model, lr=1e-6)).evidence.inputs.widest < 10


@pytest.mark.parametrize(("spent", "elapsed", "share"), [(1.0, 4.0, 0.25), (5.0, 2.0, 1.0), (1.0, 0.0, 0.0)])
def test_the_overhead_is_a_share(monkeypatch, spent, elapsed, share):
    monkeypatch.setattr(Account, "elapsed_s", property(lambda _: elapsed))
    monkeypatch.setattr(Account, "spent_s", property(lambda _: spent))
    assert Monitor(mlp()).overhead == share


@pytest.mark.parametrize("every", [1, 2, 7])
def test_the_time_around_every_sample_is_noted_and_between_samples_nothing_is_done(monkeypatch, every):
    """The steps of samples, and those after them, are told to the account; of the others no clock is asked."""
    noted, asked = [], []

    class Noting(Account):
        def before_sample(self, step):
            noted.append(("before", step))

        def after_sample(self, step):
            noted.append(("after", step))

    monkeypatch.setattr(monitoring, "Account", lambda: Noting(lambda: asked.append(1) or 0.0))
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=every, budget=1e9) as monitor:
        for at, (inputs, target) in enumerate(task(30)):
            before = len(asked)
            F.cross_entropy(model(inputs), target).backward()
            optimizer.step()
            optimizer.zero_grad()
            if every == 7 and at > 7:
                is_quiet = at % 7 not in (0, 1, 6)  # a sample, the step after it, the step that asks for the next
                assert (len(asked) == before) is is_quiet, at
    samples = [step for step in range(31) if step % every == 0]
    assert [step for kind, step in noted if kind == "before"] == samples
    if every > 1:
        assert [step for kind, step in noted if kind == "after"] == [step + 2 for step in samples if step + 2 <= 30]
    assert monitor.samples == (len([step for step in samples if step < 30]), len(samples))
