import copy

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.transfer.promise import FrozenState, check_places, check_promise, check_still, kept_freeze


def frozen():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[1].running_mean.fill_(0.5)
    fl.freeze(model, through="1")
    return model


BREAKS = {
    "a weight": lambda m: m[0].weight.data.add_(1),
    "model.apply": lambda m: m.apply(lambda part: nn.init.ones_(part.weight) if hasattr(part, "weight") else None),
    "update_bn": lambda m: torch.optim.swa_utils.update_bn([torch.randn(4, 3)], m),
    "a buffer": lambda m: m[1].running_var.mul_(2),
    "a mode": lambda m: setattr(m[1], "training", True),
    "another layer": lambda m: m.__setitem__(1, nn.SyncBatchNorm.convert_sync_batchnorm(m[1])),
}


@pytest.mark.parametrize("name", BREAKS)
def test_whatever_moves_in_the_frozen_part_is_named(name):
    model = frozen()
    state = FrozenState(model)
    state.check()
    with torch.no_grad():
        BREAKS[name](model)
    with pytest.raises(fl.FrostlineError, match="The frozen part changed during training"):
        state.check()


def test_training_the_rest_and_a_second_freeze_change_nothing():
    model = frozen()
    state = FrozenState(model)
    model.train()
    model[2].weight.data.add_(1)
    fl.freeze(model, through="1")
    state.check()


def test_an_embedding_that_rewrites_its_weight_cannot_be_frozen_until_it_is_scaled():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.5), nn.Linear(3, 2))
    with pytest.raises(fl.DataError, match="cannot be frozen") as error:
        fl.freeze(model, through="0")
    assert model[0].weight.requires_grad
    assert "renorm_" in error.value.do
    keys = torch.arange(5)
    expected = model(keys).detach()
    with torch.no_grad():
        model.get_submodule("0").weight.renorm_(2.0, 0, 0.5)
    model.get_submodule("0").max_norm = None
    fl.freeze(model, through="0")
    check_promise(model, "freeze")
    torch.testing.assert_close(model(keys).detach(), expected)


def test_of_much_that_moved_the_first_three_are_named():
    model = frozen()
    state = FrozenState(model)
    with torch.no_grad():
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for tensor in (*model[0].parameters(), *model[1].parameters(), model[1].running_mean):
            tensor.add_(1)
    with pytest.raises(fl.FrostlineError) as error:
        state.check()
    assert error.value.received == "parameter 0.weight, parameter 0.bias, parameter 1.weight, and 2 more"
    model.load_state_dict({**kept, "0.weight": model[0].weight})
    with pytest.raises(fl.FrostlineError) as error:
        state.check()
    assert error.value.received == "parameter 0.weight"


def test_what_is_not_frozen_may_rewrite_itself():
    model = nn.Sequential(nn.EmbeddingBag(5, 3, max_norm=0.5), nn.Embedding(5, 3))
    fl.freeze(model, modules=[model[1]])
    check_promise(model, "here")
    check_promise(model, "here", [model[1]])
    for frozen_ones in ([model[0]], None):
        model[0].weight.requires_grad_(False)
        with pytest.raises(fl.DataError, match="The embedding '0' cannot be frozen") as error:
            check_promise(model, "here", frozen_ones)
        assert (error.value.where, error.value.received) == ("here", "max_norm=0.5")


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_freezing_looks_at_no_weight_that_is_computed_when_it_is_read(norm):
    model = nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fl.freeze(model, through="0")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_buffers_of_layers_that_were_converted_inside_of_a_frozen_block_are_watched():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2))
    fl.freeze(model, through="0")
    state = FrozenState(nn.SyncBatchNorm.convert_sync_batchnorm(model))
    model[0][1].running_mean.add_(1)
    with pytest.raises(fl.FrostlineError, match="The frozen part changed") as error:
        state.check()
    assert "0.1.running_mean" in error.value.received


def test_a_mode_that_was_set_by_hand_before_is_no_change_of_the_training():
    model = frozen()
    for module in model.modules():
        module.training = True
    state = FrozenState(model)
    assert not model[1].training
    state.check()


@pytest.mark.parametrize("affine", [True, False])
def test_a_layer_put_in_the_place_of_a_frozen_one_is_named_until_it_is_frozen(affine):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=affine), nn.Linear(3, 2))
    fl.freeze(model, through="1")
    model = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    with pytest.raises(fl.DataError, match="'1' was frozen, and has been replaced by one that is not") as error:
        check_places(model, "fit(model)")
    assert "modules=[model.get_submodule('1')]" in error.value.do
    fl.freeze(model, modules=[model.get_submodule("1")])
    check_places(model, "fit(model)")
    assert not model.train()[1].training


def test_new_layers_that_train_thawed_ones_and_layers_without_state_may_stand_anywhere():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
    fl.freeze(model)
    model[0], model[1], model[3] = nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 5)
    check_places(model, "fit(model)")
    fl.freeze(model, through="0")
    fl.thaw(model)
    model[0] = nn.BatchNorm1d(3, affine=False)
    check_places(model, "fit(model)")


def test_three_that_moved_are_named_without_more():
    model = frozen()
    state = FrozenState(model)
    with torch.no_grad():
        for tensor in (*model[0].parameters(), model[1].running_mean):
            tensor.add_(1)
    with pytest.raises(fl.FrostlineError) as error:
        state.check()
    assert error.value.received == "parameter 0.weight, parameter 0.bias, buffer 1.running_mean"


def test_an_error_takes_a_freeze_back():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    fl.freeze(model, through="0")
    model[2].weight.grad = torch.ones(2, 3)
    before = [(p.requires_grad, p.grad) for p in model.parameters()], [sorted(vars(m)) for m in model.modules()]
    with pytest.raises(KeyError), kept_freeze(model):
        fl.freeze(model)
        raise KeyError
    assert before == (
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [sorted(vars(m)) for m in model.modules()],
    )
    assert [m.training for m in model.train()] == [False, True, True]
    with kept_freeze(model):
        fl.freeze(model, through="1")
    assert not model[1].training


@pytest.mark.parametrize("mode", [True, False])
def test_an_error_takes_the_modes_of_a_freeze_back(mode):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).train(mode)
    model[1].train(not mode)
    with pytest.raises(KeyError), kept_freeze(model):
        fl.freeze(model, through="1")
        model.eval()
        raise KeyError
    assert [module.training for module in model.modules()] == [mode, mode, not mode, mode]
    fl.freeze(model)
    with pytest.raises(KeyError), kept_freeze(model):
        fl.thaw(model)
        raise KeyError
    assert not any(parameter.requires_grad for parameter in model.parameters())
    fl.thaw(model)
    assert [module.training for module in model.modules()] == [mode, mode, False, mode]


def test_gradients_that_a_freeze_dropped_come_back_after_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].weight.grad = gradient = torch.ones(3, 3)
    with pytest.raises(KeyError), kept_freeze(model):
        fl.freeze(model, through="0")
        raise KeyError
    assert model[0].weight.grad is gradient


def test_what_trains_keeps_the_mode_that_it_has():
    model = frozen()
    model.train()
    FrozenState(model)
    assert [module.training for module in model] == [False, False, True]
    assert model.training


def test_of_four_that_moved_three_are_named():
    model = frozen()
    state = FrozenState(model)
    with torch.no_grad():
        for tensor in (*model[0].parameters(), *model[1].parameters()):
            tensor.add_(1)
    with pytest.raises(fl.FrostlineError) as error:
        state.check()
    assert error.value.received == "parameter 0.weight, parameter 0.bias, parameter 1.weight, and 1 more"


def test_every_place_is_looked_at_and_layers_that_cannot_move_may_stand_there():
    blocks = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)) for _ in range(2)]
    model = nn.Sequential(*blocks)
    fl.freeze(model, modules=[model[0], model[1][0], model[1][1]])
    model[1][0] = nn.Linear(3, 3).requires_grad_(False)
    check_places(model, "fit(model)")
    model[1][1] = nn.BatchNorm1d(3).requires_grad_(False)
    with pytest.raises(fl.DataError, match=r"'1\.1' was frozen"):
        check_places(model, "fit(model)")


class Positions(nn.Module):
    """A table of positions as a buffer that its first call builds."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("table", torch.zeros(0, 4), persistent=False)

    def forward(self, x_BTD):
        if len(self.table) < x_BTD.shape[1]:
            self.table = torch.arange(x_BTD.shape[1] * 4.0).view(-1, 4).sin()
        return x_BTD * self.weight + self.table[: x_BTD.shape[1]]


def test_a_buffer_that_the_first_call_builds_is_told_with_a_remedy_that_helps():
    model = nn.Sequential(Positions(), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    inputs = torch.randn(4, 3, 4)
    with pytest.raises(fl.DataError, match="builds its own buffers in its first call") as error:
        check_still(model, inputs)
    assert error.value.received == "buffer 0.table"
    assert "with torch.no_grad(): model(inputs)" in error.value.do
    with torch.no_grad():
        model(inputs)
    check_still(model, inputs)
    split = fl.split(model, inputs)
    torch.testing.assert_close(split.head(*split.extract(inputs)), model(inputs))


class MeanTeacher(nn.Module):
    """Its forward moves the teacher's weights towards the student's."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(4, 2), nn.Linear(4, 2).requires_grad_(False)

    def forward(self, x_BD):
        with torch.no_grad():
            for own, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                own.lerp_(other, 0.1)
        return self.student(x_BD) - self.teacher(x_BD)


def _made():
    torch.manual_seed(0)
    return MeanTeacher()


def test_weights_that_a_model_moves_itself_train_uncached_as_in_a_plain_loop():
    items = [(row, at % 2) for at, row in enumerate(torch.randn(6, 4))]
    order = []

    class Data(list):
        def __getitem__(self, at):
            order.append(at)
            return super().__getitem__(at)

    fitted, plain = _made(), _made()
    fl.fit(fitted, Data(items), epochs=1, batch_size=3, optimizer=lambda own: torch.optim.SGD(own, 0.1),
           cache=False, progress=False)  # fmt: skip
    step = torch.optim.SGD(plain.student.parameters(), 0.1)
    for part in (order[-6:-3], order[-3:]):
        inputs, labels = torch.stack([items[at][0] for at in part]), torch.tensor([items[at][1] for at in part])
        nn.functional.cross_entropy(plain(inputs), labels).backward()
        step.step()
        step.zero_grad()
    for own, other in zip(fitted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_what_freeze_holds_must_not_move_in_an_uncached_training_either():
    model = _made()
    fl.freeze(model, modules=[model.teacher])
    items = [(row, at % 2) for at, row in enumerate(torch.randn(6, 4))]
    with pytest.raises(fl.FrostlineError, match="changed during training"):
        fl.fit(model, items, epochs=1, batch_size=3, cache=False, progress=False)
