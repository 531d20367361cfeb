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
