"""What holds on a processor holds on a GPU: the same doors, with models there and batches on either side."""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline import remedies
from frostline.core.inputs import move
from frostline.core.uploads import Uploads
from frostline.demo import demo, sick_network
from helpers_fit import D, N, data, fit, mlp
from helpers_health import CLASSES, FEATURES, sgd, sick_sigmoids, task, watched
from helpers_health import mlp as classifier
from zoo import CASES, frozen_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: make test-gpu")

GPU = "cuda"
LOSS = nn.CrossEntropyLoss()
IMAGES = [(torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(at)), torch.arange(16) % 4)
          for at in range(4)]  # fmt: skip


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.low = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
                                 nn.Conv2d(32, 64, 3, stride=2, bias=False), nn.BatchNorm2d(64), nn.ReLU())  # fmt: skip
        self.high = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                  nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4))  # fmt: skip

    def forward(self, images):
        return self.high(self.low(images))


class Words(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(20, 16)
        self.body = {
            "lstm": lambda: nn.LSTM(16, 16, 2, batch_first=True),
            "lstm with dropout": lambda: nn.LSTM(16, 16, 2, batch_first=True, dropout=0.5),
            "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
        }[kind]()
        self.out = nn.Linear(16, 3)

    def forward(self, ids):
        made = self.body(self.embed(ids))
        return self.out((made[0] if isinstance(made, tuple) else made).mean(1))


def frozen(model, through):
    fl.freeze(model, through=through)
    return model.to(GPU)


def states():
    return torch.get_rng_state(), torch.cuda.get_rng_state()


def are_untouched(before):
    return all(map(torch.equal, before, states()))


def same_weights(one, other, **tolerance):
    for key, value in other.state_dict().items():
        torch.testing.assert_close(
            one.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}", **tolerance
        )


# --- Splitting


@pytest.mark.parametrize("kind", ["plain", "convolutions", "channels last", "lstm", "lstm with dropout", "transformer"])
def test_a_split_is_proven(kind):
    if kind == "plain":
        model, inputs = frozen(mlp(), "2"), torch.randn(8, D)
    elif kind.startswith("c"):
        model, inputs = frozen(Convolutions(), "low"), torch.randn(8, 3, 32, 32)
        model = model.to(memory_format=torch.channels_last if kind == "channels last" else torch.contiguous_format)
    else:
        model, inputs = frozen(Words(kind), "embed"), torch.randint(0, 20, (8, 7))
    before = states()
    split = fl.split(model, inputs.to(GPU))
    assert split.verify(inputs).largest_difference < 1e-4
    features = split.extract(inputs)  # from the processor
    assert are_untouched(before)
    assert all(feature.is_cuda for feature in features)
    model.eval()
    torch.testing.assert_close(split.head.eval()(*features), model(inputs.to(GPU)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore")
def test_real_architectures_split(case):
    for cut in (case.border, case.inside):
        model, _ = frozen_model(case, cut)
        split = fl.split(model.to(GPU), move(case.example(4), GPU))
        assert split.explain().verification.largest_difference < 1e-5


def test_an_example_elsewhere_is_refused():
    with pytest.raises(fl.DataError, match="another device") as error:
        fl.split(frozen(mlp(), "2"), torch.randn(4, D))
    assert error.value.do == "move the example: example.to('cuda:0')."


def test_noise_of_the_gpu_is_seen():
    class Noisy(nn.Linear):
        def forward(self, x):
            made = super().forward(x)
            return made + torch.randn_like(made)

    with pytest.raises(fl.NotCacheable):
        fl.split(frozen(nn.Sequential(Noisy(D, 8), nn.Linear(8, 2)), "0"), torch.randn(4, D, device=GPU))


# --- Caching


@pytest.mark.parametrize("is_on_gpu", [False, True], ids=["data on the processor", "data on the gpu"])
@pytest.mark.parametrize("is_resident", [True, False], ids=["resident", "mapped"])
def test_a_cache_gives_what_the_frozen_part_computes(tmp_path, monkeypatch, is_on_gpu, is_resident):
    if not is_resident:
        monkeypatch.setattr("frostline.caching.reading.loader._SHARE", 0.0)
    inputs, target = (tensor.to(GPU) if is_on_gpu else tensor for tensor in data().tensors)
    dataset = TensorDataset(inputs, target)
    split = fl.split(frozen(mlp(), "2"), inputs[:4].to(GPU))
    before = states()
    cache = fl.FeatureCache(tmp_path)
    first = cache.fill(split, dataset, batch_size=16, progress=False)
    again = cache.fill(split, dataset, batch_size=16, progress=False)
    assert (first.figures.computed, again.figures.computed) == (N, 0)
    for stored in (first, again):
        expected = torch.cat([split.extract(part)[0] for part in inputs.split(16)])
        for loader in (stored.loader(16, device=GPU), stored.loader(16)):
            for _ in range(2):  # epochs
                batches = list(loader)
                assert all(f[0].is_cuda and t.is_cuda for f, t in batches)
                assert torch.equal(torch.cat([f[0] for f, _ in batches]), expected)
                assert torch.equal(torch.cat([t for _, t in batches]).cpu(), target.cpu())
        at_home = list(stored.loader(16, device="cpu"))
        assert torch.equal(torch.cat([f[0] for f, _ in at_home]), expected.cpu())
        assert not stored[3][0][0].is_cuda
    assert are_untouched(before)


@pytest.mark.parametrize("batch_size", [5, N])
def test_batches_that_are_copied_while_the_gpu_computes_are_those_of_their_samples(tmp_path, batch_size):
    model, images = frozen(Convolutions(), "low"), torch.cat([own for own, _ in IMAGES])
    dataset = TensorDataset(images, torch.arange(len(images)))
    split = fl.split(model, images[:4].to(GPU))
    stored = fl.FeatureCache(tmp_path).fill(split, dataset, batch_size=batch_size, progress=False)
    for at in range(0, len(images), 4):
        expected = split.extract(images[at : at + 4])[0].cpu()
        found = torch.stack([stored[own][0][0] for own in range(at, at + 4)])
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_batch_on_a_stream_of_its_own_holds_its_values():
    uploads = Uploads(torch.device(GPU))
    for at in range(20):  # memory that is given out again
        batch = {"x": torch.full((256, 1024), float(at)), "ids": [torch.arange(at + 1)], "name": "kept"}
        moved = uploads.upload(batch)
        assert float(moved["x"].double().mean()) == at
        assert moved["ids"][0].tolist() == list(range(at + 1))
        assert moved["name"] == "kept"


def test_a_resident_batch_is_fresh(tmp_path):
    split = fl.split(frozen(mlp(), "2"), data().tensors[0][:4].to(GPU))
    loader = fl.FeatureCache(tmp_path).fill(split, data(), progress=False).loader(16, shuffle=True)
    whole = [(f[0].clone(), t) for f, t in loader]
    loader.epoch = 0
    for features, _ in loader:
        features[0].zero_()
    loader.epoch = 0
    assert all(torch.equal(f[0], kept) for (f, _), (kept, _) in zip(loader, whole, strict=True))


@pytest.mark.parametrize(("build", "through", "is_rounded"), [(mlp, "2", False), (Convolutions, "low", True)])
def test_rows_stay_golden_and_rounding_of_the_gpu_is_part_of_the_key(tmp_path, build, through, is_rounded):
    inputs = torch.randn(N, 3, 64, 64) if is_rounded else torch.randn(N, D)
    model, cache = frozen(build(), through), fl.FeatureCache(tmp_path)

    def fill(device):
        split = fl.split(model.to(device), inputs[:4].to(device))
        return cache.fill(split, TensorDataset(inputs, torch.arange(N) % 2), batch_size=16, progress=False)

    assert fill(GPU).figures.computed == N
    assert fill(GPU).figures.computed == 0
    assert fill("cpu").figures.computed == (N if is_rounded else 0)


# --- Training


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "clip": remedies.clip_by_norm(0.5)}, {"val": data(20)},
                                     {"precision": "bf16-mixed"}], ids=["plain", "sgd", "val", "bf16"])  # fmt: skip
def test_cached_and_uncached_end_with_the_same_weights(tmp_path, options):
    cached, uncached = mlp(), mlp()  # on the processor
    before = states()
    a = fit(cached, freeze="2", epochs=4, batch_size=16, out=tmp_path, **options)
    b = fit(uncached, freeze="2", epochs=4, batch_size=16, cache=False, **options)
    assert are_untouched(before)
    assert all(tensor.is_cuda for tensor in cached.state_dict().values())  # left where they trained
    same_weights(cached, uncached, rtol=0, atol=2e-2 if "precision" in options else 1e-6)
    losses = [[epoch.train_loss for epoch in result.history] for result in (a, b)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2 if "precision" in options else 1e-5)


def test_convolutions_train_cached(tmp_path):
    generator = torch.Generator().manual_seed(3)
    target = torch.arange(64) % 4
    images = torch.randn(64, 3, 32, 32, generator=generator) + target[:, None, None, None]
    results = [fit(Convolutions(), TensorDataset(images, target), freeze="low", epochs=3, batch_size=16, cache=cache)
               for cache in (tmp_path, False)]  # fmt: skip
    cached, uncached = ([epoch.train_loss for epoch in result.history] for result in results)
    assert cached == pytest.approx(uncached, rel=1e-2)


def test_a_resumed_run_goes_on(tmp_path):
    def run(epochs, out):
        model = mlp()
        result = fit(model, val=data(20), freeze="2", epochs=epochs, batch_size=16, out=out, resume=out)
        return model, [epoch.train_loss for epoch in result.history]

    whole, losses = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    parts, again = run(4, tmp_path / "parts")
    assert again == losses
    same_weights(parts, whole, rtol=0, atol=0)


def test_a_sick_network_is_healed_before_it_trains(tmp_path):
    x, y = (torch.cat(parts) for parts in zip(*task(60), strict=True))
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    dataset = TensorDataset(300 * x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    healing = fl.heal(model, [*DataLoader(dataset, batch_size=20)] * 3, LOSS, optimizer)  # on the CPU
    result = fit(model, dataset, optimizer=optimizer, epochs=2, batch_size=20, out=tmp_path)
    assert healing.before.cause == "input_scale"
    assert len(result.history) == 2
    assert all(tensor.is_cuda for tensor in model.state_dict().values())


def test_generators_are_left_alone_before_cuda_has_started():
    script = """
import torch
from frostline.core.restore import kept_generators, seed_generators
torch.manual_seed(5)
if {ours}:
    with kept_generators():
        seed_generators(1)
        torch.rand(2)
        if {starts}:
            torch.rand(2, device="cuda")
print(torch.rand(3).tolist(), torch.rand(3, device="cuda").tolist())
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", script.format(ours=ours, starts=starts)], check=True, capture_output=True, text=True
        ).stdout
        for ours, starts in [(False, False), (True, False), (True, True)]
    ]
    assert told[0] == told[1] == told[2]


# --- Health


def test_a_monitor_sees_the_same_on_both():
    expected, before = watched(classifier()), states()
    monitor = watched(classifier().to(GPU), data=[(x.to(GPU), y.to(GPU)) for x, y in task()])
    assert are_untouched(before)
    assert len(monitor.records) == len(expected.records) == 20
    for ours, theirs in zip(monitor.records, expected.records, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)
        for one, other in zip(ours.layers, theirs.layers, strict=True):
            assert one.layer == other.layer
            assert one.deviation == pytest.approx(other.deviation, rel=1e-3)
            assert (one.update_ratio or 0.0) == pytest.approx(other.update_ratio or 0.0, rel=1e-2)
    assert [f.code for f in monitor.findings] == [f.code for f in expected.findings]


def test_a_monitor_hears_convolutions(tmp_path):
    images = [(x.to(GPU), y.to(GPU)) for x, y in IMAGES * 5]
    monitor = watched(Convolutions().to(GPU), data=images, path=tmp_path / "health.jsonl")
    assert len((tmp_path / "health.jsonl").read_text().splitlines()) == len(monitor.records) == 10
    assert all(layer.deviation is not None for layer in monitor.records[0].layers if layer.layer != "")


@pytest.mark.parametrize("fused", [False, True])
def test_scaled_gradients_are_read_unscaled_and_left_out_steps_are_no_sickness(fused):
    model = classifier().to(GPU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**14)
    clip = remedies.clip_by_norm(100.0)
    with fl.Monitor(model, optimizer, every=1, budget=1e9) as monitor:
        for at, (inputs, target) in enumerate(task(30)):
            with torch.autocast("cuda", torch.float16):
                loss = LOSS(model(inputs.to(GPU)), target.to(GPU))
            scaler.scale(loss * (torch.inf if at == 10 else 1.0)).backward()
            if not fused:
                scaler.unscale_(optimizer)
                if at != 10:
                    assert not clip(model.parameters()).skipped
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            monitor.step(loss)
    finite = [record for record in monitor.records if record.nonfinite is None]
    assert all(record.gradient_norm < 10 for record in finite)
    assert len(finite) >= 29
    if not fused:  # the step is not made at all
        assert len(monitor.records) == 29
        assert "FL502" not in {finding.code for finding in monitor.findings}


def test_a_checkup_finds_the_cause_with_batches_of_the_processor():
    model = sick_sigmoids().to(GPU)
    kept, before = copy.deepcopy(model.state_dict()), states()
    diagnosis = fl.checkup(model, task(100), LOSS, sgd(model, lr=0.01))
    assert diagnosis.cause == "vanishing"
    assert are_untouched(before)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert all(value.is_cuda for value in model.state_dict().values())


def test_batches_of_the_gpu_reach_a_model_on_the_processor():
    rows = [(x.to(GPU), y.to(GPU)) for x, y in task(60)]
    there, here = (fl.checkup(classifier(), batches, LOSS) for batches in (rows, task(60)))
    assert there == here


def test_heal_treats_a_model_on_the_gpu():
    batches = [(300 * x, y) for x, y in task(150)]
    model = classifier().to(GPU)
    optimizer = sgd(model)
    before = states()
    healing = fl.heal(model, batches, LOSS, optimizer)
    assert are_untouched(before)
    assert healing.loss_after <= healing.loss_before
    assert all(value.is_cuda for value in model.state_dict().values())
    for inputs, target in batches[:3]:  # and goes on
        LOSS(model(inputs.to(GPU)), target.to(GPU)).backward()
        optimizer.step()


# --- Remedies


def test_clips_limit_alike_on_both():
    for clip in (remedies.clip_by_norm(0.01), remedies.clip_by_value(0.001), remedies.clip_adaptive(),
                 remedies.clip_by_percentile(warmup=0), remedies.clip_by_zscore()):  # fmt: skip
        gradients = []
        for device in ("cpu", GPU):
            model, own = classifier().to(device), copy.deepcopy(clip)
            for inputs, target in task(3):
                model.zero_grad()
                LOSS(model(inputs.to(device)), target.to(device)).backward()
                assert not own(model.parameters()).skipped
            gradients.append([parameter.grad.cpu() for parameter in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
        model[0].weight.grad[0, 0] = float("nan")
        assert own(model.parameters()).skipped


def changed(remedy):
    """Apply a remedy on the GPU, undo it, and return the state that it left."""
    model = Convolutions().to(GPU).eval()
    kept, before = copy.deepcopy(model.state_dict()), states()
    change = remedy(model)
    after = copy.deepcopy(model.state_dict())
    assert are_untouched(before)
    assert all(value.is_cuda for value in after.values())
    assert model(IMAGES[0][0].to(GPU)).isfinite().all()
    getattr(change, "change", change).undo()
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    return after


def on_both(remedy, **tolerance):
    model = Convolutions().eval()
    remedy(model)
    expected = model.state_dict()
    for key, value in changed(remedy).items():
        torch.testing.assert_close(value.cpu(), expected[key], msg=lambda text, key=key: f"{key}: {text}", **tolerance)


def test_initialize_draws_the_same():
    for scheme in ("auto", "orthogonal"):
        on_both(lambda m, s=scheme: remedies.initialize(m, s, include_pretrained=True, batch=IMAGES[0]), rtol=0, atol=0)


def test_lsuv():
    on_both(lambda m: remedies.lsuv(m, IMAGES[0], layers=["low", "high"]), rtol=1e-2, atol=1e-3)


def test_batchnorm_is_re_estimated():
    on_both(lambda m: remedies.reestimate_batchnorm(m, IMAGES), rtol=1e-2, atol=1e-2)


def test_inputs_are_standardised():
    on_both(lambda m: remedies.standardize_inputs(m, IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", ["identity", "normalised"])
def test_batchnorm_is_inserted(start):
    where = ["high.6"]
    on_both(lambda m: remedies.insert_batchnorm(m, IMAGES, where=where, start=start), rtol=1e-2, atol=1e-2)


def test_batchnorm_is_folded():
    model = Convolutions()
    with torch.no_grad():
        for inputs, _ in IMAGES:
            model(inputs)
    model = model.to(GPU).eval()
    inputs = IMAGES[0][0].to(GPU)
    expected = model(inputs)
    certificate = remedies.fold_batchnorm(model, inputs)
    assert len(certificate.folded) == 3
    torch.testing.assert_close(model(inputs), expected, rtol=1e-2, atol=1e-2)
    certificate.change.undo()
    assert torch.equal(model(inputs), expected)


def test_activations_are_swapped_and_priced():
    model = classifier().to(GPU)
    before = states()
    table = remedies.price_activations(model, task(20), LOSS, candidates=[nn.ELU, nn.PReLU], steps=30)
    assert are_untouched(before)
    assert len(table) == 3
    remedies.swap_activations(model, nn.ReLU, nn.PReLU)
    assert all(parameter.is_cuda for parameter in model.parameters())


# --- The rest


def test_heads_and_weights_of_others():
    model = Convolutions().to(GPU)
    assert fl.replace_head(model, 7, name="high.6").weight.is_cuda
    assert "low.0.weight" in fl.reuse(Convolutions(), model, through="low").copied
    assert F.mse_loss(model.low[0].weight.cpu(), Convolutions().low[0].weight) == 0


def test_copies_of_recurrent_networks_do_not_warn():
    model = Words("lstm").to(GPU)
    batches = [(torch.randint(0, 20, (16, 7)), torch.arange(16) % 3) for _ in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.checkup(model, batches, LOSS)


def test_a_model_on_the_processor_does_not_start_the_gpu():
    script = """
import torch, frostline as fl
from torch import nn
model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
fl.split(fl.freeze(model, through="2") and model, torch.randn(4, 4))
fl.remedies.fold_batchnorm(model, torch.randn(4, 4))
assert not torch.cuda.is_initialized()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_demo_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SEEDS", (0,))
    monkeypatch.setattr(demo, "EPOCHS", {5: 4, None: 3})
    monkeypatch.setattr(sick_network, "EPOCHS", 1)
    result = demo.run_demo(tmp_path)
    uncached, cached = result.by_time[1:]
    assert cached.losses == pytest.approx(uncached.losses, rel=1e-2)
    assert result.largest_difference < 1e-2
    assert 0.5 < result.frozen_share < 1.0
    assert "Cured by" in result.text()
