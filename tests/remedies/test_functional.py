import torch
from torch import nn
from torch.nn import functional as F

from frostline.remedies.functional import function_names, functional_uses


class Base(nn.Module):
    def helper(self, x):
        return x.sigmoid()


class Net(Base):
    def __init__(self):
        super().__init__()
        self.gelu = nn.GELU()

    def forward(self, x):
        return F.gelu(self.gelu(self.helper(x))) + torch.tanh(x)


def test_calls_are_found_in_the_class_and_its_bases():
    def uses(kind):
        return [note.split(" at ")[0] for _, note in functional_uses(nn.Sequential(Net()), kind)]

    assert uses(nn.GELU) == ["calls F.gelu"]
    assert uses(nn.Sigmoid) == ["calls x.sigmoid"]
    assert uses(nn.Tanh) == ["calls torch.tanh"]
    assert uses(nn.ReLU) == []


def test_functions_have_their_in_place_twins():
    assert function_names(nn.ReLU) == {"relu", "relu_"}
