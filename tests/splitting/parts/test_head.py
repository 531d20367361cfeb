import copy

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import (
    FORWARDS,
    B,
    D,
    Net,
    check,
    x,
)


def test_frozen_modules_do_not_run_in_the_head():
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3))
    fl.freeze(model, through="2")
    split = check(model, x(4), names=["3"])
    ran = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    features = split.extract(x())
    assert ran == ["0", "1", "2", "3"]
    ran.clear()
    split.head(*features)
    assert ran == ["4"]


def test_head_shares_parameters_buffers_and_names():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D), nn.BatchNorm1d(D))
    fl.freeze(model, through="0")
    split = check(model, x(4))
    assert {name: id(p) for name, p in split.head.named_parameters()} == {
        name: id(p) for name, p in model.named_parameters() if p.requires_grad
    }
    assert set(split.head.state_dict()) == {k for k in model.state_dict() if not k.startswith("0.")}
    optimizer = torch.optim.SGD(split.head.parameters(), lr=0.1)
    split.head.train()
    split.head(*split.extract(x())).sum().backward()
    before = model[1].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model[1].weight)
    assert model[2].num_batches_tracked == 1


def test_head_is_readable():
    model = Net(FORWARDS["residual"])
    split = check(model, x(4), names=["low"])
    assert "self.high(f0_low)" in split.head.code
    assert "torch" not in split.head.code


def test_wrapping_for_distributed_training_keeps_the_sharing(tmp_path):
    from torch import distributed

    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(split.head)
        wrapped(*split.extract(x())).sum().backward()
    finally:
        distributed.destroy_process_group()
    assert model.high.weight.grad is not None
    assert model.low.weight.grad is None


def test_double_and_load_state_dict_keep_the_sharing():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    state = {key: value + 1 for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    model.double()
    batch = x().double()
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_features_may_come_as_one_argument_as_trainers_pass_a_batch():
    split = check(Net(FORWARDS["plain"]), x(4))
    features = split.extract(x(4))
    for given in (features, [*features]):
        assert torch.equal(split.head(given), split.head(*features))
    with pytest.raises(fl.SplitError, match="another number of features"):
        split.head([*features, features[0]])


def test_wrong_features_are_refused():
    split = check(Net(FORWARDS["plain"]), x(4))
    with pytest.raises(fl.SplitError, match=r"(?s)something else than tensors.*split.head\(\*features\)"):
        split.head([split.extract(x(4))], 0)
    with pytest.raises(fl.SplitError, match="another number of features"):
        split.head()
    with pytest.raises(fl.SplitError, match="another shape than the frontier"):
        split.head(torch.randn(B, D + 1))


def test_a_head_has_the_mode_of_its_model():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    fl.freeze(model, through="0")
    head = fl.split(model, torch.randn(4, 4)).head
    assert head.training  # as the model: a loop may begin without head.train()
    for mode in (False, True):
        model.train(mode)
        assert head.training is mode
        head.train(not mode)
        assert model[1].training is model.training is head.training is not mode
    head.eval()
    for module in head.modules():  # as trainers put modes back, flag by flag
        module.training = True
    assert model.training
    assert model[1].training
    assert not model[0].training
    twin = copy.deepcopy(head)
    twin.eval()
    assert head.training
    assert not twin.training
