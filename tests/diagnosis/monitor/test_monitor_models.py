"""The monitor with models and loops of all kinds."""

import socket
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from frostline import Monitor
from helpers_health import CLASSES, FEATURES, codes, mlp, outcome, run, sgd, sick_sigmoids, task, watched


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


REPARAMETRISED = {
    "weight_norm": parametrizations.weight_norm, "spectral_norm": parametrizations.spectral_norm,
    "old spectral_norm": spectral_norm, "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
}  # fmt: skip


@pytest.mark.parametrize("name", REPARAMETRISED)
def test_weights_that_are_computed_from_others_get_gradients(name):
    torch.manual_seed(0)
    hidden = nn.Linear(
        FEATURES, 16
    )  # the gradient of its bias vanishes before a BatchNorm, that of its weights does not
    model = nn.Sequential(hidden, nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
    REPARAMETRISED[name](hidden)
    monitor = watched(model)
    assert codes(monitor, "issue") == set()
    samples = {sample.layer: sample for sample in monitor.records[0].layers}
    assert set(samples) == {"0", "1", "2", "3"}
    assert samples["0"].gradient_norm > 1e-3


def test_old_weight_norm_is_seen_too():
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.Sequential(weight_norm(nn.Linear(FEATURES, 16)), nn.ReLU(), nn.Linear(16, CLASSES))
    assert watched(model).records[0].layers[0].gradient_norm > 1e-3
