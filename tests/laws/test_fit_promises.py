import pytest
import torch
from torch import nn

import frostline as fl
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
    with pytest.raises(fl.DataError, match="another one stands in its place"):
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
