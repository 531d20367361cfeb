import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.activations import BY_NAME, FUNCTIONS, is_activation, is_kind, kind_of, label, make


def test_names_classes_instances_and_factories():
    for name, kind in BY_NAME.items():
        assert kind_of(name) is kind
        assert type(make(name)) is kind
    given = nn.ELU(alpha=0.5, inplace=True)
    made = make(given)
    assert made is not given
    assert (made.alpha, made.inplace, given.inplace) == (0.5, False, True)
    assert isinstance(make(lambda: nn.Hardswish(inplace=True)), nn.Hardswish)


def test_every_function_has_its_module():
    assert all(hasattr(nn, module) for module in FUNCTIONS.values())


def test_subclasses_of_users_count_and_those_of_torch_do_not():
    class Mine(nn.ReLU):
        pass

    assert is_kind(Mine(), nn.ReLU)
    assert not is_kind(nn.ReLU6(), nn.Hardtanh)
    assert is_activation(nn.Mish())
    assert not is_activation(nn.Linear(1, 1))


def test_labels():
    assert [label(x) for x in ("elu", nn.ELU, nn.Tanh(), torch.nn.Identity)] == ["elu", "ELU", "Tanh()", "Identity"]


def test_what_makes_no_activation_is_refused():
    for wrong in (None, b"relu", 3, nn.Threshold, lambda size: nn.ELU(size)):
        with pytest.raises(fl.DataError, match="no activation named|cannot be made without arguments"):
            make(wrong)
    assert isinstance(make(lambda: nn.ELU(0.5)), nn.ELU)
