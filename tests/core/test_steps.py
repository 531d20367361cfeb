import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import frostline as fl
from frostline.core.steps import check_dense, check_loss, copied, take_step


@pytest.mark.parametrize("bad", [None, 1.0, torch.ones(2)], ids=["nothing", "a float", "a vector"])
def test_a_loss_is_one_number_in_a_tensor(bad):
    check_loss(torch.ones((), requires_grad=True), "here")
    with pytest.raises(fl.DataError, match="not a scalar") as error:
        check_loss(bad, "here")
    assert error.value.where == "here"


def test_a_loss_has_something_that_trains_behind_it():
    with pytest.raises(fl.DataError, match="does not depend on any trainable parameter"):
        check_loss(torch.ones(()), "here")


def test_sparse_gradients_are_told_from_other_errors():
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    take_step(torch.optim.SGD(embedding.parameters(), lr=0.1))
    with pytest.raises(fl.DataError, match="does not take sparse gradients") as error:
        take_step(torch.optim.AdamW(embedding.parameters()))
    assert "SparseAdam" in error.value.do

    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        take_step(Broken(embedding.parameters(), lr=0.1))


def test_sparse_parameters_are_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    check_dense(model)
    model.weight = nn.Parameter(torch.eye(3).to_sparse())
    for refused in (check_dense, copied):
        with pytest.raises(fl.DataError, match="parameter is a sparse tensor") as error:
            refused(model)
        assert error.value.where == "weight"


def test_a_pruned_model_is_copied_with_its_optimizer():
    model = nn.Sequential(nn.Linear(4, 4))
    prune.l1_unstructured(model[0], "weight", 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.ones(1, 4)
    model(x).sum().backward()
    twin, own = copied(model, optimizer)
    assert torch.equal(twin(x), model(x))
    assert own.param_groups[0]["params"][0] is next(twin.parameters())
    before = model[0].weight.clone()
    twin(x).sum().backward()
    own.step()
    twin(x)
    assert not torch.equal(twin[0].weight, before)
    assert torch.equal((twin[0].weight == 0), (before == 0))
    assert torch.equal(model[0].weight, before)


def test_what_cannot_be_copied_is_said():
    model = nn.Linear(2, 2)
    model.file = open(__file__)  # noqa: SIM115 (held on purpose)
    with model.file, pytest.raises(fl.DataError, match="cannot be copied"):
        copied(model)
