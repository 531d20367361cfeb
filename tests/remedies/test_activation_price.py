import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import frostline as fl
from frostline import remedies
from frostline.remedies import ActivationPrice, PriceTable
from remedies.surgeon import fingerprint, same, trained, untouched


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def data(count=3):
    return [(torch.randn(16, 4), torch.randint(0, 2, (16,))) for _ in range(count)]


@pytest.mark.parametrize(
    "optimizer", [None, lambda p: torch.optim.SGD(p, lr=0.1), "mine"], ids=["none", "made", "mine"]
)
def test_prices_are_measured_and_the_model_is_left_alone(optimizer):
    model, batches = net(), data()
    mine = trained(model, batches[0][0])
    before = fingerprint(model, mine)
    with untouched(model):
        table = remedies.price_activations(
            model, iter(batches), F.cross_entropy, candidates=["elu", nn.PReLU, nn.LeakyReLU(0.2)], steps=12,
            optimizer=mine if optimizer == "mine" else optimizer,
        )  # fmt: skip
    assert same(fingerprint(model, mine), before)
    assert [price.name for price in table] == ["ReLU", "elu", "PReLU", "LeakyReLU(negative_slope=0.2)"]
    assert all(price.step_s > 0 and price.predict_s > 0 for price in table)
    assert table[0].steps_to_loss <= 12
    assert table[0].time_to_loss_s == table[0].steps_to_loss * table[0].step_s


def test_every_copy_sees_the_same_noise_and_batches():
    model = net()
    table = remedies.price_activations(model, data(), F.cross_entropy, candidates=["relu", nn.ReLU()], steps=9)
    assert len({price.final_loss for price in table}) == 1
    again = copy.deepcopy(model)
    assert isinstance(again[1], nn.ReLU)


def test_one_batch_is_enough():
    assert len(remedies.price_activations(net(), data(1), F.cross_entropy, candidates=["elu"], steps=2)) == 2


def test_prices_print_as_a_table():
    table = PriceTable(
        [ActivationPrice("relu", 1e-3, 5e-4, 10, 0.01, 0.5), ActivationPrice("tanh", 2e-3, 1e-3, None, None, 0.9)]
    )
    lines = str(table).splitlines()
    assert lines[0].split()[0] == "activation"
    assert "not reached" in lines[2]
    assert len({len(line.rstrip()) for line in lines[:2]}) == 1


def test_losses_and_models_that_no_copy_can_train_on_are_refused():
    for loss, text in ((lambda output, target: output, "not a scalar"), (lambda *_: torch.ones(()), "does not depend")):
        with pytest.raises(fl.DataError, match=text):
            remedies.price_activations(net(), data(), loss, candidates=["elu"], steps=2)
    sparse = nn.Sequential(nn.EmbeddingBag(5, 4, sparse=True), nn.ReLU(), nn.Linear(4, 2))
    words = [(torch.randint(0, 5, (16, 3)), torch.randint(0, 2, (16,)))]
    with pytest.raises(fl.DataError, match="does not take sparse gradients"):
        remedies.price_activations(sparse, words, F.cross_entropy, candidates=["elu"], steps=2)
    pruned = net()
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    assert len(remedies.price_activations(pruned, data(), F.cross_entropy, candidates=["elu"], steps=2)) == 2


def test_what_cannot_be_priced_is_refused():
    with pytest.raises(fl.DataError, match="There is nothing to price"):
        remedies.price_activations(net(), [], F.cross_entropy, candidates=["elu"])
    with pytest.raises(fl.DataError, match="no activation module that could be swapped"):
        remedies.price_activations(nn.Linear(4, 2), data(), F.cross_entropy, candidates=["elu"])
    with pytest.raises(fl.DataError, match="loss of the current activation is not finite"):
        remedies.price_activations(
            net(), data(), lambda o, t: F.cross_entropy(o, t) * torch.nan, candidates=["elu"], steps=2
        )
    with pytest.raises(fl.DataError, match="must be \\(inputs, target\\)"):
        remedies.price_activations(net(), [torch.randn(3, 4)], F.cross_entropy, candidates=["elu"], steps=2)
