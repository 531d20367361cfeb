import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import frostline as fl
from frostline import remedies
from frostline.remedies.surgery import Snapshot, adopt, chosen_modules, dismiss, grouped, placement, replace_everywhere
from remedies.surgeon import fingerprint, same, trained, undone


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 2))


REMEDIES = {
    "swap": lambda m, x, o: remedies.swap_activations(m, None, "prelu", layers=["1", "2.1"], optimizer=o),
    "insert": lambda m, x, o: remedies.insert_batchnorm(m, [x], optimizer=o),
    "normalise": lambda m, x, o: remedies.insert_batchnorm(m, [x], start="normalised", optimizer=o),
    "reestimate": lambda m, x, o: remedies.reestimate_batchnorm(m, [x]),
    "initialize": lambda m, x, o: remedies.initialize(m, include_pretrained=True, batch=x, optimizer=o),
}


@given(st.lists(st.sampled_from(sorted(REMEDIES)), min_size=1, max_size=4), st.sampled_from(["Adam", "SGD", "RMSprop"]))
def test_undoing_a_row_of_remedies_backwards_is_the_identity(names, kind):
    torch.manual_seed(0)
    model, x = net(), torch.randn(8, 4)
    made = trained(model, x, optimizer=getattr(torch.optim, kind))
    with undone(model, made) as changes:
        for name in ["swap", *names]:  # the first one has seen the optimizer
            changes.append(REMEDIES[name](model, x, made))
            made.zero_grad()
            model(x).square().mean().backward()
            made.step()


def test_a_converted_model_comes_back_in_its_dtype():
    model = net()
    before = fingerprint(model)
    snapshot = Snapshot(model)
    model.double()
    snapshot.restore()
    assert same(fingerprint(model), before)


def test_restoring_twice_is_restoring_once():
    model, x = net(), torch.randn(8, 4)
    optimizer = trained(model, x)
    snapshot, before = Snapshot(model, optimizer), fingerprint(model, optimizer)
    for _ in range(2):
        snapshot.restore()
        optimizer.step()
    snapshot.restore()
    assert same(fingerprint(model, optimizer), before)


def test_a_module_is_replaced_under_all_its_names():
    act = nn.ReLU()
    model = nn.ModuleDict({"a": act, "b": nn.Sequential(act)})
    replace_everywhere(model, act, nn.ELU())
    assert model["a"] is model["b"][0]
    assert isinstance(model["a"], nn.ELU)


def test_parameters_come_and_go_in_their_group():
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    assert adopt(optimizer, [("c", c)], b)
    assert optimizer.param_groups[1]["params"][1] is c
    dismiss(optimizer, b)
    assert len(optimizer.param_groups[1]["params"]) == 1
    assert not adopt(optimizer, [("b", b)], nn.Parameter(torch.ones(1)))
    assert not adopt(None, [("b", b)], a)
    dismiss(None, a)


def test_the_layer_before_says_where_new_weights_belong():
    model = net()
    assert placement(model, model[1]) is model[0].bias
    assert placement(model, model[2][0]) is model[2][0].weight
    assert placement(nn.Sequential(nn.ReLU(), model[0]), nn.ReLU()) is model[0].bias
    first = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    assert placement(first, first[0]) is not None


def test_layers_are_chosen_by_name_glob_and_container():
    model = net()
    inside, named = chosen_modules(model, ["2"])
    assert list(inside) == ["2", "2.0", "2.1"]
    assert named == {id(model[2])}
    assert list(chosen_modules(model, "2.*")[0]) == ["2.0", "2.1"]
    assert chosen_modules(model, None)[1] == set()
    with pytest.raises(fl.LayerNotFound, match="No layer or parameter matches"):
        chosen_modules(model, "9*")


def test_notes_with_the_same_reason_are_one():
    assert grouped([("a", "is odd"), ("", "is even"), ("b", "is odd")]) == ("a, b: is odd", "the model: is even")


def test_what_stands_in_for_a_frozen_layer_is_frozen_and_thawed_with_it():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Linear(2, 2)).train()
    fl.freeze(model, through="0")
    replace_everywhere(model, model[0], nn.Sequential(model[0]))
    model.train()
    assert not model[0][0][1].training
    assert not model[0].training
    fl.thaw(model)
    model.train()
    assert all(module.training for module in model.modules())
