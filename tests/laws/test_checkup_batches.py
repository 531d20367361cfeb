"""What a checkup makes of the batches: epochs, inputs that come again, accumulation, scalers, hooks, optimizers."""

import math
from itertools import product

import pytest
import torch
from sklearn import datasets
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline.diagnosis.experiments.batches import held_out, num_epochs
from frostline.diagnosis.experiments.trial import Patient, train
from helpers_health import mlp, sgd, task


def code(diagnosis, name):
    found = (*diagnosis.findings, *diagnosis.passed, *diagnosis.not_judged)
    return {one.outcome: one.why for one in found if one.code == name}


def digits(seed, batch_size=32):
    data = datasets.load_digits()
    inputs = torch.tensor(data.data / 16, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(inputs, torch.tensor(data.target)), batch_size, shuffle=True, generator=generator
    )  # fmt: skip


def classifier(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


# Epochs


@pytest.mark.parametrize("seed", range(5))
def test_one_pass_over_a_loader_is_too_short_to_call_a_healthy_rate_too_low(seed):
    model, loader = classifier(seed), digits(seed)
    diagnosis = fl.checkup(model, loader, F.cross_entropy, torch.optim.Adam(model.parameters(), 1e-3))
    assert diagnosis.cause is None, str(diagnosis)
    assert not [finding for finding in diagnosis.findings if finding.outcome == "issue"]
    assert "too short" in code(diagnosis, "FL402")["not judged"]
    assert "too short" in str(diagnosis)
    assert not str(diagnosis).startswith("Healthy")


def test_three_epochs_are_enough_to_judge_the_rate():
    model, loader = classifier(0), digits(0)
    passes = [batch for _ in range(3) for batch in loader]
    diagnosis = fl.checkup(model, passes, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))
    assert "not judged" not in code(diagnosis, "FL402")


def test_epochs_can_be_said_where_no_input_comes_again():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    assert "not judged" in code(fl.checkup(model, task(40), F.cross_entropy, optimizer), "FL402")
    said = fl.checkup(model, task(40), F.cross_entropy, optimizer, epochs=3)
    assert "not judged" not in code(said, "FL402")


def test_epochs_are_how_often_inputs_come_again():
    assert num_epochs(task(10)) == 1
    assert num_epochs(task(10) * 3) == 3


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": -1.0}, {"epochs": math.nan}, {"accumulation": 0}])
def test_numbers_that_make_no_sense_are_refused(options):
    model = mlp()
    with pytest.raises(fl.DataError):
        fl.checkup(model, task(4), F.cross_entropy, sgd(model), **options)


# Rows that are held out


def rows(batches):
    return {tuple(row.tolist()) for inputs, _ in batches for row in inputs.reshape(len(inputs), -1)}


def truth_table(bits, repeats=40):
    inputs = torch.tensor([*product((0.0, 1.0), repeat=bits)])
    target = (inputs.sum(1) % 2).long()
    batches = []
    for at in range(repeats):
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(at))
        batches += [(inputs[order], target[order])]
    return batches


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("fold", range(4))
def test_of_few_inputs_all_are_trained_on(bits, fold):
    data = truth_table(bits)
    rest, judged = held_out(data, fold)
    assert rows(rest) == rows(data)
    assert rows(judged) <= rows(data)


def test_inputs_drawn_with_replacement_are_all_trained_on():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(300, 5, generator=generator)
    data = [(kinds[torch.randint(300, (32,), generator=generator)], torch.zeros(32)) for _ in range(200)]
    assert rows(held_out(data)[0]) == rows(data)


def test_categories_are_all_trained_on():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    data = [(part, part % 3) for _ in range(4) for part in order.split(20)]
    assert rows(held_out(data)[0]) == rows(data)


def test_an_input_of_the_last_batches_alone_is_trained_on_as_well():
    data = [(torch.zeros(8, 2), torch.zeros(8)) for _ in range(9)] + [(torch.ones(8, 2), torch.ones(8))]
    data[-1][0][0] = 0
    assert rows(held_out(data)[0]) == rows(data)


def test_of_epochs_over_many_inputs_a_fifth_is_held_out():
    data = task(20) * 4
    rest, judged = held_out(data)
    assert not rows(rest) & rows(judged)


def test_a_network_that_learns_a_truth_table_is_not_called_stuck():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    diagnosis = fl.checkup(model, truth_table(2, 200), F.cross_entropy, torch.optim.Adam(model.parameters(), 0.02))
    assert not {"FL404", "FL402"} & {finding.code for finding in diagnosis.findings}, str(diagnosis)
    assert diagnosis.is_healthy


# Gradients as the optimizer uses them


def norms_of(batches=12, **options):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clip = options.pop("clip", None)
    if clip is not None:
        optimizer.register_step_pre_hook(lambda *_: clip(model.parameters()) and None)
    return train(Patient(model, optimizer, **options), task(batches), F.cross_entropy).norms


def test_a_clip_on_the_optimizer_is_in_the_norms():
    assert max(norms_of()) > 0.1
    clipped = norms_of(clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1))
    assert max(clipped) == pytest.approx(0.1, rel=1e-3)


def test_accumulated_batches_make_one_norm_each():
    assert len(norms_of(12, accumulation=4)) == 3
    assert len(norms_of(10, accumulation=4)) == 3
    alone = norms_of(12)
    assert norms_of(12, accumulation=1) == alone


def test_accumulation_trains_on_the_mean_of_the_gradients():
    first, second = mlp(), mlp()
    data = task(4)
    train(Patient(first, sgd(first), accumulation=4), data, F.cross_entropy)
    joined = [(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))]
    train(Patient(second, sgd(second)), joined, F.cross_entropy)
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_norms_are_unscaled_and_a_step_that_overflows_is_no_norm():
    plain = norms_of()
    scaled = norms_of(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert scaled == pytest.approx(plain, rel=1e-3)


def test_spikes_that_the_loop_clips_are_no_finding():
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(16, 8, generator=generator), torch.randn(16, 1, generator=generator)) for _ in range(60)]
    heavy = {float(data[at][1].sum()) for at in (20, 31, 42)}  # rare batches weigh much

    def loss_of(output, target):
        return (300.0 if float(target.sum()) in heavy else 1.0) * F.mse_loss(output, target)

    def outcome_of(clips):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        if clips:
            optimizer.register_step_pre_hook(
                lambda one, *_: nn.utils.clip_grad_norm_(one.param_groups[0]["params"], 1.0) and None
            )
        return set(code(fl.checkup(model, data, loss_of, optimizer), "FL103"))

    assert outcome_of(clips=True) == {"passed"}
    assert outcome_of(clips=False) & {"issue", "tip"}


# Optimizers


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, lambda parameters: torch.optim.SGD(parameters, lr=0.05)])
def test_what_makes_an_optimizer_is_taken(optimizer):
    diagnosis = fl.checkup(mlp(), task(30), F.cross_entropy, optimizer)
    assert diagnosis.is_healthy
    assert "no optimizer was given" not in str(diagnosis)


@pytest.mark.parametrize("optimizer", ["adam", 0.1, lambda parameters: None])
def test_what_makes_none_is_refused(optimizer):
    with pytest.raises(fl.DataError, match="no optimizer"):
        fl.checkup(mlp(), task(4), F.cross_entropy, optimizer)


def test_without_an_optimizer_rates_are_told_as_not_judged():
    diagnosis = fl.checkup(mlp(), task(20) * 3, F.cross_entropy)
    for name in ("FL401", "FL402"):
        assert "no optimizer was given" in code(diagnosis, name)["not judged"]


def test_a_healthy_network_is_called_so_where_all_could_be_judged():
    model = mlp()
    diagnosis = fl.checkup(model, task(20) * 4, F.cross_entropy, torch.optim.Adam(model.parameters(), 5e-3))
    assert diagnosis.not_judged == ()
    assert str(diagnosis).startswith("No symptoms found. ")


def test_a_loss_that_cannot_be_asked_is_told():
    model = mlp()

    def loss_of(output, target):
        return F.cross_entropy(output["logits"], target)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return {"logits": self.body(x)}

    named = Named()
    diagnosis = fl.checkup(named, task(20) * 4, loss_of, torch.optim.Adam(named.parameters(), 5e-3))
    assert "FL503" in {finding.code for finding in diagnosis.not_judged}
    assert "Healthy" not in str(diagnosis)


# What cannot be used

DATA = task(6)


@pytest.mark.parametrize(
    "arguments",
    [
        (nn.Linear, DATA, F.cross_entropy), (mlp(), None, F.cross_entropy), (mlp(), DATA, None),
        (mlp(), DATA, "cross_entropy"), (mlp(), DATA, nn.CrossEntropyLoss), (nn.Linear(5, 2), DATA, F.cross_entropy),
        (mlp(), [(x, F.one_hot(y, 3)) for x, y in DATA], F.cross_entropy),
        (mlp(), [(x, y[:, None]) for x, y in DATA], F.cross_entropy),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [fl.checkup, fl.heal])
def test_arguments_that_cannot_be_used_are_refused(call, arguments):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    if isinstance(arguments[0], nn.Module):
        optimizer = torch.optim.SGD(arguments[0].parameters(), lr=0.1)
    with pytest.raises(fl.DataError) as error:
        call(*arguments, optimizer)
    assert error.value.what in {
        "That is no model.", "The batches cannot be gone through.", "The model cannot be called with these inputs.",
        "The loss cannot be called with an output and a target.", "The loss cannot be taken of this output and target.",
        "A checkup takes a loss, or a step of your own loop.",
    }  # fmt: skip
    assert error.value.do


@pytest.mark.parametrize("optimizer", [None, torch.optim.Adam, "adam"])
def test_healing_wants_the_optimizer_that_training_goes_on_with(optimizer):
    with pytest.raises(fl.DataError, match="got none"):
        fl.heal(mlp(), DATA, F.cross_entropy, optimizer)


@pytest.mark.parametrize("optimizer", [None, torch.optim.Adam])
def test_layers_whose_shape_is_not_known_yet_are_checked_up(optimizer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3))
    assert fl.checkup(model, task(20) * 3, F.cross_entropy, optimizer).is_healthy
    assert isinstance(model[0], nn.LazyLinear)


def test_a_batch_without_samples_is_named():
    batches = [(torch.ones(4, 2), torch.ones(4, 1)), (torch.ones(0, 2), torch.ones(0, 1))] * 10
    for call in (fl.checkup, lambda *given: fl.heal(*given, torch.optim.SGD(given[0].parameters(), lr=0.1))):
        with pytest.raises(fl.DataError, match="has no samples") as error:
            call(nn.Linear(2, 1), batches, nn.MSELoss())
        assert error.value.where == "batches[1]"


def test_the_default_dtype_of_the_caller_does_not_enter_a_checkup_or_a_cure():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=generator)
    batches = [(x, x.sum(1, keepdim=True)) for _ in range(6) for x in inputs.split(16)]
    found = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            model = nn.Linear(4, 1, dtype=torch.float32)
            nn.init.ones_(model.weight), nn.init.ones_(model.bias)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            told = str(fl.checkup(model, batches, nn.MSELoss(), optimizer))
            fl.heal(model, batches, nn.MSELoss(), optimizer)
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
        found.append((told, model.weight.tolist()))
    assert found[0] == found[1]
