import contextlib
import json
import socket
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import frostline as fl
from frostline import Monitor
from helpers_health import CLASSES, FEATURES, codes, mlp, run, sgd, sick_sigmoids, task


def watched(model, optimizer=None, data=None, *, every=2, loss_fn=F.cross_entropy, clears=True, **options):
    optimizer = optimizer or sgd(model)
    with Monitor(model, optimizer, every=every, budget=1e9, **options) as monitor:
        run(model, optimizer, monitor, data, loss_fn=loss_fn, clears=clears)
    return monitor


def outcome(monitor, code):
    diagnosis = monitor.diagnosis
    return {finding.outcome for finding in (*diagnosis.findings, *diagnosis.passed) if finding.code == code}


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
    assert 0 < monitor.overhead < 1


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
    assert {finding.outcome for finding in monitor.diagnosis.passed} == {"not applicable"}
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
    for code in ("FL103", "FL401", "FL402", "FL504"):
        assert outcome(monitor, code) == {"not applicable"}
    assert all("gradient" not in finding.why for finding in monitor.findings)


def test_zero_grad_before_monitor_step_is_said():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, every=2) as monitor:
        run(model, optimizer, monitor)
    assert "zero_grad() came before monitor.step(loss)" in " ".join(monitor.unseen)


# --- Models and loops of all kinds


def test_frozen_layers_do_not_vanish():
    model = mlp(6)
    for module in model[:6]:
        module.requires_grad_(False)
    monitor = watched(model)
    frozen = {layer.name for layer in monitor.evidence.layers if layer.is_frozen}
    assert frozen == {"0", "2", "4"}
    assert codes(monitor, "issue") == set()
    samples = {sample.layer: sample for sample in monitor.records[0].layers}
    assert samples["0"].gradient_norm is None
    assert samples["0"].deviation is not None


class Tied(nn.Module):
    """Integers in, logits out, one weight at both ends."""

    def __init__(self):
        super().__init__()
        self.embed, self.mid = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(F.relu(self.mid(self.embed(tokens).mean(1))))


def tokens(batches=20):
    generator = torch.Generator().manual_seed(3)
    return [(torch.randint(20, (16, 5), generator=generator), torch.arange(16)) for _ in range(batches)]


def test_tied_weights_count_once_and_integers_have_no_scale():
    monitor = watched(Tied(), data=tokens())
    samples = {sample.layer: sample for sample in monitor.records[0].layers}
    assert samples["embed"].gradient_norm > 0
    assert samples["out"].gradient_norm is None
    assert codes(monitor, "issue") == set()
    assert outcome(monitor, "FL501") == {"not applicable"}


def test_sparse_gradients_train_to_the_same_bits():
    def build():
        torch.manual_seed(5)
        return nn.Sequential(nn.EmbeddingBag(20, 8, sparse=True, mode="sum"), nn.Linear(8, 20))

    plain, seen = build(), build()
    run(plain, sgd(plain, momentum=0.0), data=tokens())
    watched(seen, sgd(seen, momentum=0.0), tokens(), every=1)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), seen.parameters(), strict=True))


class Reads(nn.Module):
    """An LSTM whose output is a tuple."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(FEATURES, 16, 2, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.lstm(x[:, None].expand(-1, 6, -1))[0][:, -1])


def test_recurrent_networks():
    monitor = watched(Reads())
    assert codes(monitor, "issue") == set()
    samples = {sample.layer: sample for sample in monitor.records[0].layers}
    assert samples["lstm"].deviation > 0


@dataclass
class Answer:
    logits: torch.Tensor


@pytest.mark.parametrize(
    ("pack", "take"),
    [(lambda x: {"logits": x}, lambda out: out["logits"]), (Answer, lambda out: out.logits),
     (lambda x: (x, None), lambda out: out[0]), (lambda x: x.mean(), lambda out: out.expand(16, CLASSES))],
    ids=["dict", "dataclass", "tuple", "number"],
)  # fmt: skip
def test_outputs_of_any_kind(pack, take):
    class Packs(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.scale = mlp(), nn.Parameter(torch.ones(CLASSES))

        def forward(self, x):
            return pack(self.body(x) * self.scale)

    monitor = watched(Packs(), loss_fn=lambda out, y: F.cross_entropy(take(out), y))
    assert monitor.unseen == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_precisions(dtype):
    model = mlp().to(dtype)
    data = [(inputs.to(dtype), target) for inputs, target in task(20)]
    monitor = watched(model, sgd(model, lr=0.01), data)
    assert codes(monitor, "issue") == set()
    assert len(monitor.records) == 10


def test_complex_parameters():
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.out = nn.Linear(FEATURES, 8, dtype=torch.complex64), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.out(self.inside(x.to(torch.complex64)).abs())

    monitor = watched(Waves())
    samples = {sample.layer: sample for sample in monitor.records[0].layers}
    assert samples["inside"].gradient_norm > 0
    assert codes(monitor, "issue") == set()


def test_autocast():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=2) as monitor:
        for inputs, target in task(20):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
    assert codes(monitor, "issue") == set()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clears", [True, False])
def test_scaled_gradients_are_read_unscaled(fused, clears):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    with Monitor(model, optimizer, every=1, budget=1e9) as monitor:
        for inputs, target in task(20):
            loss = F.cross_entropy(model(inputs), target)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if clears:
                optimizer.zero_grad()
            monitor.step(loss)
    assert monitor.records[0].gradient_norm < 10
    if clears:
        assert all(record.gradient_norm < 10 for record in monitor.records)
    if not fused:  # a fused one leaves scaled gradients behind
        assert outcome(monitor, "FL504") == {"passed" if clears else "issue"}


def test_a_step_that_the_scaler_leaves_out_is_no_sickness():
    model = mlp()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    with Monitor(model, optimizer, every=1, budget=1e9) as monitor:
        for inputs, target in task(30):
            loss = F.cross_entropy(model(inputs), target)
            scaler.scale(10 * loss).backward()
            scaler.step(optimizer)
            scaler.update(new_scale=1.0)
            optimizer.zero_grad()
            monitor.step(loss)
    assert len(monitor.records) == 29
    assert "FL502" not in codes(monitor)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing(use_reentrant):
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList(nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU()) for _ in range(4))
            self.out = nn.Linear(FEATURES, CLASSES)

        def forward(self, x):
            x = x.requires_grad_()
            for stage in self.stages:
                x = checkpoint(stage, x, use_reentrant=use_reentrant)
            return self.out(x)

    monitor = watched(Stages())
    assert [layer.name for layer in monitor.evidence.layers if layer.has_weights] == [
        *(f"stages.{at}.0" for at in range(4)), "out",
    ]  # fmt: skip
    assert codes(monitor, "issue") == set()


def test_a_module_called_several_times():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.act, self.out = nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, CLASSES)

        def forward(self, x):
            for _ in range(3):
                x = self.act(self.inside(x))
            return self.out(x)

    monitor = watched(Again())
    assert codes(monitor, "issue") == set()
    assert len(monitor.records[0].layers) == 3


def test_a_compiled_model_says_what_is_not_seen():
    torch._dynamo.reset()
    model = sick_sigmoids()
    compiled = torch.compile(model, backend="eager")
    optimizer = sgd(model)
    with Monitor(compiled, optimizer, every=2) as monitor:
        run(compiled, optimizer, monitor, task(20))
    assert monitor.unseen == ("the model is compiled: outputs of its layers are not seen, gradients and updates are",)
    assert "FL101" in codes(monitor, "issue")  # gradients tell
    assert outcome(monitor, "FL201") == {"not applicable"}
    torch._dynamo.reset()


@pytest.fixture
def _one_process():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = torch.distributed.TCPStore("127.0.0.1", port, 1, True)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("clears", [True, False])
def test_a_distributed_model_is_looked_into(clears):
    model = nn.parallel.DistributedDataParallel(mlp())
    monitor = watched(model, clears=clears)
    assert [layer.name for layer in monitor.evidence.layers][:2] == ["0", "1"]
    assert monitor.records[0].layers[0].deviation is not None
    assert outcome(monitor, "FL504") == {"passed" if clears else "issue"}


def test_validation_inside_the_block_is_not_training():
    model = mlp()
    optimizer = sgd(model)
    data = task(20)
    with Monitor(model, optimizer, every=1) as monitor:
        for inputs, target in data:
            with torch.no_grad():
                model(1e6 * inputs)
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss)
            with torch.inference_mode():
                model(1e6 * inputs)
    assert codes(monitor, "issue") == set()
    assert monitor.evidence.inputs.largest < 100


def test_training_in_eval_mode():
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)).eval()
    monitor = watched(model)
    assert codes(monitor, "issue") == set()
    assert not model.training


def test_several_groups_and_hooks_of_others():
    model = mlp()
    heard = []
    handles = [model[0].register_forward_hook(lambda *_: heard.append("forward"))]
    optimizer = torch.optim.AdamW([{"params": model[0].parameters(), "lr": 1e-4}, {"params": model[2:].parameters()}])
    handles.append(optimizer.register_step_post_hook(lambda *_: heard.append("step")))
    monitor = watched(model, optimizer, task(6))
    assert monitor.evidence.optimizer.lr == 1e-3
    assert heard == ["forward", "step"] * 6
    assert len(model[0]._forward_hooks) == 1
    assert len(optimizer._optimizer_step_post_hooks) == 1
    for handle in handles:
        handle.remove()


def test_an_optimizer_with_a_closure():
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    with Monitor(model, optimizer, every=1) as monitor:
        for inputs, target in task(8):

            def closure(inputs=inputs, target=target):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs), target)
                loss.backward()
                return loss

            monitor.step(optimizer.step(closure))
    assert all(record.gradient_norm > 0 for record in monitor.records)
    assert outcome(monitor, "FL504") == {"passed"}


def test_an_optimizer_over_a_part_of_the_model():
    model = mlp()
    optimizer = sgd(model[-1])
    with Monitor(model, optimizer, every=1) as monitor:
        run(model, optimizer, monitor)  # the body's gradients grow and grow, unused
    assert outcome(monitor, "FL504") == {"passed"}


def test_two_monitors_on_one_model():
    model = mlp()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=2, budget=1e9) as outer:
        with Monitor(model, optimizer, every=4, budget=1e9) as inner:
            run(model, optimizer, outer, task(8))
        run(model, optimizer, outer, task(8))
    assert len(outer.records) == 8
    assert [record.step for record in inner.records] == [0, 4]
    assert outer.records[2].layers == inner.records[1].layers


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
    with pytest.raises(fl.DataError, match="The optimizer does not hold the model's parameters"):
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
    assert not monitor._told
    assert not monitor._waiting
    assert not monitor._loss_of


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
            assert len(monitor._told) < 1_000
    assert monitor.samples == (10, 2_501)
    assert [record.loss for record in monitor.records] == list(range(10))
    assert len(monitor.evidence.losses) == 2_500


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
