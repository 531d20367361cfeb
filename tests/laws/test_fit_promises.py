import contextlib

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.restore import default_dtype
from helpers_fit import data, fit, mlp


def trained(before=None, **options):
    model = mlp()
    fl.freeze(model, through="2")
    if before is not None:
        before(model)
    fit(model, cache=False, epochs=1, **options)
    return [p.detach().clone() for p in model.parameters()], model


def test_an_earlier_backward_pass_does_not_enter_and_its_gradients_are_kept():
    clean, _ = trained()
    dirty, model = trained(lambda m: (100 * m(torch.ones(4, 6))).sum().backward())
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
    assert model[7].weight.grad is not None


@pytest.mark.parametrize("ambient", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu"),
                                     lambda: torch.device("meta")])  # fmt: skip
def test_what_surrounds_the_call_does_not_enter(ambient):
    clean, _ = trained()
    model = mlp()
    fl.freeze(model, through="2")
    train = data()
    with ambient():
        fit(model, train, cache=False, epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(clean, model.parameters(), strict=True))


def test_what_writes_into_the_frozen_part_is_named():
    def loss(output, target):
        model[0].weight.data.add_(1)
        return nn.functional.cross_entropy(output, target)

    model = mlp()
    fl.freeze(model, through="2")
    with pytest.raises(fl.FrostlineError, match="frozen part changed") as error:
        fit(model, cache=False, epochs=1, loss=loss)
    assert "0.weight" in error.value.received


class Curriculum(torch.utils.data.Dataset):
    """Items that follow an epoch which somebody sets."""

    def __init__(self, of_label=False):
        self.items, self.epoch, self.of_label, self.reads = data(), 0, of_label, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        inputs, label = self.items[index]
        return (inputs, (label + self.epoch) % 2) if self.of_label else (inputs * (1 + self.epoch), label)


class Calling:
    """A scheduler that calls back at the end of an epoch."""

    def __init__(self, function):
        self.function, self.num_epochs = function, 0

    def step(self):
        self.num_epochs += 1
        self.function(self.num_epochs)


@pytest.mark.parametrize("of_label", [False, True])
@pytest.mark.parametrize("is_val", [False, True])
def test_a_dataset_that_changes_between_epochs_is_refused_where_it_is_cached(tmp_path, of_label, is_val):
    changing = Curriculum(of_label)
    sets = {"train": data(), "val": changing} if is_val else {"train": changing, "val": None}

    def run(cache):
        changing.epoch = 0
        model = mlp()
        fl.freeze(model, through="2")
        return fit(model, **sets, cache=cache, epochs=2, loss="cross_entropy",
                   scheduler=lambda _: Calling(lambda epoch: setattr(changing, "epoch", epoch)))  # fmt: skip

    run(False)
    with pytest.raises(fl.DataError, match="changed while fit runs: 'dataset.epoch'") as error:
        run(tmp_path)
    assert "val" in error.value.where if is_val else "train" in error.value.where


def test_a_dataset_that_changes_directory_moves_neither_cache_nor_run(tmp_path, monkeypatch):
    class Moving(Curriculum):
        def __getitem__(self, index):
            monkeypatch.chdir(tmp_path / "other")
            return self.items[index]

    (tmp_path / "here").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = mlp()
    fl.freeze(model, through="2")
    result = fit(model, Moving(), cache="rows", out="run", epochs=1)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["rows", "run"]
    assert result.out == tmp_path / "here" / "run"
    assert not list((tmp_path / "other").iterdir())
    monkeypatch.chdir(tmp_path / "here")
    fit(model, Moving(), cache="rows", resume="run", epochs=1)


@pytest.mark.parametrize("cached", [False, True])
def test_a_frozen_observer_is_named_before_the_first_epoch_and_the_remedy_works(tmp_path, cached):
    quantization = torch.ao.quantization
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), quantization.FakeQuantize(quantization.MinMaxObserver), nn.Linear(6, 2))
    model(torch.randn(8, 6))
    fl.freeze(model, through="1")
    before, epochs = model[1].scale.clone(), []
    options = {"cache": tmp_path if cached else False, "epochs": 1, "scheduler": lambda _: Calling(epochs.append)}
    with pytest.raises(fl.DataError, match="frozen layer '1' changes its own buffers") as error:
        fit(model, **options)
    assert "FakeQuantize" in error.value.where
    assert not epochs
    assert torch.equal(model[1].scale, before)
    model.apply(quantization.disable_observer)
    fit(model, **options)
    assert epochs == [1]


def test_inputs_of_another_dtype_are_told_with_the_class_of_the_model():
    items = [(x.double(), y) for x, y in data()]
    with pytest.raises(fl.DataError, match="^Sequential cannot take these inputs"):
        trained(train=items)


@pytest.mark.parametrize("by_name", [False, True])
def test_texts_among_the_inputs_train_without_a_cache_and_are_named_with_one(tmp_path, by_name):
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.out = nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x, text):
            return self.out(self.low(x)) * (2 if "a" in text else 1)

    def items(texts):
        pairs = zip(data(), texts, strict=True)
        return [({"x": x, "text": text} if by_name else (x, text), y) for (x, y), text in pairs]

    def run(texts, cache):
        torch.manual_seed(0)
        model = Told()
        fl.freeze(model, modules=[model.low])
        return fit(model, items(texts), cache=cache, epochs=1, monitor=False).history[0].train_loss

    assert run("ab" * 24, False) > 0
    with pytest.raises(fl.DataError, match=f"The input '{'text' if by_name else 1}' is a text") as error:
        run("ab" * 24, tmp_path)
    assert error.value.received == "'a', 'b'"
    assert run("a" * 48, tmp_path) == run("a" * 48, False)


REPLACED = {
    "7": lambda m: m.__setitem__(7, nn.Linear(16, 2)),
    "forward_hook number 0": lambda m: m.register_forward_hook(lambda *_: None),
    "0.forward": lambda m: setattr(m[0], "forward", lambda inputs: inputs.repeat(1, 3)[:, :16]),
    "1.eps": lambda m: setattr(m[1], "eps", 1.0),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_layer_that_is_replaced_while_a_cached_fit_runs_is_refused_at_the_next_epoch(tmp_path, name):
    model, seen = mlp(), []
    fl.freeze(model, through="2")

    def change(epoch):
        seen.append(epoch)
        REPLACED[name](model)

    with pytest.raises(fl.SplitError, match="was changed after it was split") as error:
        fit(model, cache=tmp_path, epochs=3, scheduler=lambda _: Calling(change))
    assert error.value.where == name
    assert seen == [1]


@pytest.mark.parametrize("is_array", [False, True])
def test_a_tensor_that_the_dataset_fills_anew_for_every_item_is_copied(tmp_path, is_array):
    class Buffers(Curriculum):
        def __init__(self):
            super().__init__()
            self.inputs, self.target = torch.zeros(6), torch.zeros(2)
            if is_array:
                self.inputs, self.target = self.inputs.numpy(), self.target.numpy()

        def __getitem__(self, index):
            inputs, label = self.items[index]
            self.inputs[:], self.target[:] = inputs.numpy() if is_array else inputs, 0
            self.target[int(label) % 2] = 1
            return self.inputs, self.target

    def weights(train, cache):
        model = mlp()
        fl.freeze(model, through="2")
        fit(model, train, cache=cache, epochs=1, loss="bce")
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    plain = [(x, torch.eye(2)[int(y) % 2]) for x, y in data()]
    expected = weights(plain, False)
    for cache in (False, tmp_path):
        assert torch.allclose(weights(Buffers(), cache), expected, atol=1e-6)


def test_a_frozen_embedding_that_rewrites_itself_is_refused_and_the_remedy_works():
    model = nn.Sequential(nn.Embedding(5, 4, max_norm=1.0), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(fl.DataError, match="max_norm"):
        fl.freeze(model, through="0")
    assert model[0].weight.requires_grad
    with torch.no_grad():
        model[0].weight.renorm_(2.0, 0, 1.0)
    model[0].max_norm = None
    assert fl.freeze(model, through="0").parameters == ("0.weight",)


@pytest.mark.parametrize("kind", ["the freeze leaves nothing", "the data"])
def test_a_freeze_of_a_call_that_is_refused_is_taken_back(kind):
    model = mlp()
    train = [(torch.ones(5), 0)] * 4 if kind == "the data" else None
    with pytest.raises(fl.FrostlineError):
        fit(model, train, freeze="7" if train is None else "2", cache=False)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.train().modules())


@pytest.mark.parametrize("is_cached", [True, False])
def test_frozen_layers_set_to_training_by_hand_are_held_for_the_time_of_the_call(tmp_path, is_cached):
    clean, _ = trained()
    model = mlp()
    fl.freeze(model, through="2")
    for module in model.modules():
        module.training = True
    before = model[1].running_mean.clone()
    fit(model, cache=tmp_path if is_cached else False, epochs=1)
    assert torch.equal(model[1].running_mean, before)
    assert all(torch.equal(a, b) for a, b in zip(clean, model.parameters(), strict=True))
    assert model[1].training


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_frozen_norm_that_was_converted_does_not_move_silently(tmp_path, is_cached):
    model = mlp()
    fl.freeze(model, through="2")
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with pytest.raises(fl.DataError, match="has been replaced by one that is not"):
        fit(model, cache=tmp_path if is_cached else False, epochs=1)


def test_statistics_of_a_frozen_part_outlive_an_update_of_averages(tmp_path):
    model = mlp()
    fl.freeze(model, through="2")
    samples = data().tensors[0]
    before = {name: value.clone() for name, value in model[:3].state_dict().items()}
    fit(model, cache=tmp_path, epochs=1)
    average = torch.optim.swa_utils.AveragedModel(model)
    torch.optim.swa_utils.update_bn([samples], average)
    assert all(torch.equal(value, before[name]) for name, value in average.module[:3].state_dict().items())
    assert not torch.equal(average.module[5].running_mean, model[5].running_mean)


def test_a_model_that_was_compiled_in_place_is_trained_as_it_is_written(tmp_path):
    clean, _ = trained()
    model = mlp()
    fl.freeze(model, through="2")
    model.compile(backend="eager")
    call = model._compiled_call_impl
    fit(model, cache=tmp_path, epochs=1)
    assert model._compiled_call_impl is call
    assert all(torch.equal(a, b) for a, b in zip(clean, model.parameters(), strict=True))


@contextlib.contextmanager
def deterministic(is_warned):
    torch.use_deterministic_algorithms(True, warn_only=is_warned)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


AMBIENTS = {
    "float64": lambda: default_dtype(torch.float64), "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: torch.device("meta"), "deterministic": lambda: deterministic(False),
    "deterministic, warned": lambda: deterministic(True), "no_grad": torch.no_grad,
    "inference": torch.inference_mode, "autocast": lambda: torch.autocast("cpu"),
}  # fmt: skip


def ambient_now():
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_rng_state().sum().item(),
    )  # fmt: skip


@pytest.mark.parametrize("name", AMBIENTS)
def test_what_surrounds_a_cached_call_neither_enters_nor_is_changed(tmp_path, name):
    clean, _ = trained()
    model, train = mlp(), data()
    fl.freeze(model, through="2")
    with AMBIENTS[name]():
        before = ambient_now()
        fit(model, train, train, cache=tmp_path, epochs=1)
        assert ambient_now() == before
    assert all(torch.equal(a, b) for a, b in zip(clean, model.parameters(), strict=True))


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("place", ["train", "val"])
def test_a_loader_in_place_of_a_dataset_is_named_and_its_dataset_works(tmp_path, is_cached, place):
    model, loader = mlp(), torch.utils.data.DataLoader(data(), 8)
    fl.freeze(model, through="2")
    cache = tmp_path if is_cached else False
    with pytest.raises(fl.DataError, match="A DataLoader was given") as error:
        fit(model, *((loader, None) if place == "train" else (data(), loader)), cache=cache)
    assert "loader.dataset" in error.value.do
    assert len(fit(model, loader.dataset, batch_size=8, cache=cache, epochs=1).history) == 1


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"), "parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled and parallel": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}  # fmt: skip


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("name", WRAPPERS)
def test_the_model_inside_of_wrappers_is_trained(tmp_path, capsys, name, is_cached):
    clean, _ = trained()
    model = mlp()
    fl.freeze(model, through="2")
    wrapped = WRAPPERS[name](model)
    fit(wrapped, cache=tmp_path if is_cached else False, epochs=1, progress=True)
    inside = wrapped.module if name == "averaged" else model
    assert all(torch.equal(a, b) for a, b in zip(clean, inside.parameters(), strict=True))
    assert "is trained" in capsys.readouterr().err


def test_lazy_layers_are_named_until_the_model_has_run():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    for call in (lambda: fit(model), lambda: fl.freeze(model, through="0"), lambda: fl.thaw(model),
                 lambda: fl.replace_head(model, 3), lambda: fl.reuse(nn.Linear(2, 2), model)):  # fmt: skip
        with pytest.raises(fl.DataError, match="lazy layer has no weights yet") as error:
            call()
        assert "call the model once" in error.value.do
    model(data().tensors[0])
    fl.freeze(model, through="0")
    assert fit(model, epochs=1, cache=False).history


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.5, max_iter=2)


@pytest.mark.parametrize("name", ["clip", "out", "precision"])
def test_what_cannot_go_with_a_closure_is_named_and_can_be_left_out(tmp_path, name):
    given = {"clip": fl.remedies.clip_by_norm(1.0), "out": tmp_path / "run", "precision": "16-mixed"}
    model = mlp()
    fl.freeze(model, through="2")
    with pytest.raises(fl.DataError, match=f"cannot be used with {name}=") as error:
        fit(model, optimizer=lbfgs, cache=False, epochs=1, **{name: given[name]})
    assert f"leave out {name}=" in error.value.do
    ended = []
    for cache in (tmp_path / "cache", False):
        model = mlp()
        fl.freeze(model, through="2")
        fit(model, optimizer=lbfgs, cache=cache, epochs=1)
        ended.append([parameter.detach() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
    assert not torch.equal(ended[0][-1], mlp()[7].bias)


@pytest.mark.parametrize("is_cached", [True, False])
def test_several_metrics_are_computed_over_the_whole_set_and_the_first_chooses(tmp_path, is_cached):
    model, sizes = mlp(), []
    fl.freeze(model, through="2")

    def falling(output, target):
        sizes.append((len(output), len(target)))
        return -len(sizes)

    val = data(21)
    metrics = {"falling": falling, "accuracy": "accuracy", "f1": "f1"}
    done = fit(model, data(), val, metric=metrics, batch_size=8, epochs=3, cache=tmp_path if is_cached else False)
    assert (done.best_epoch, sizes) == (1, [(21, 21)] * 3)
    assert [epoch.val_metric for epoch in done.history] == [-1, -2, -3]
    model.eval()
    right = float((model(val.tensors[0]).argmax(1) == val.tensors[1]).double().mean())
    assert done.history[0].val_metrics["accuracy"] == pytest.approx(right)
    assert list(done.history[0].val_metrics) == ["falling", "accuracy", "f1"]


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("kind", ["averages", "norms"])
def test_what_is_done_to_the_frozen_part_while_the_model_trains_is_named(tmp_path, kind, is_cached):
    model, samples = mlp(), data().tensors[0]
    fl.freeze(model, through="2")

    class Schedule:
        def __init__(self, optimizer):
            pass

        def step(self):
            if kind == "norms":
                model[1] = nn.SyncBatchNorm.convert_sync_batchnorm(model[1])
            else:
                for module in model.modules():
                    vars(module).pop("train", None)
                torch.optim.swa_utils.update_bn([samples], model)

    with pytest.raises(fl.FrostlineError) as error:
        fit(model, scheduler=Schedule, cache=tmp_path if is_cached else False, epochs=1)
    assert "frozen part" in error.value.what
    assert "1" in error.value.received


def test_averages_that_are_updated_while_the_model_trains_leave_a_frozen_part_alone(tmp_path):
    model, samples = mlp(), data().tensors[0]
    fl.freeze(model, through="2")
    before = {name: value.clone() for name, value in model[:3].state_dict().items()}

    class Schedule:
        def __init__(self, optimizer):
            pass

        def step(self):
            torch.optim.swa_utils.update_bn([samples], model)

    fit(model, scheduler=Schedule, cache=tmp_path, epochs=2)
    assert all(torch.equal(value, before[name]) for name, value in model[:3].state_dict().items())
