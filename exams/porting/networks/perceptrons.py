"""Counterparts of scikit-learn's multi-layer perceptrons."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .counterpart import Counterpart


def classifier() -> nn.Sequential:
    """Two hidden layers and a softmax."""
    hidden = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 6), nn.Tanh())
    return nn.Sequential(OrderedDict(body=hidden, top=nn.Linear(6, 4), odds=nn.Softmax(dim=1)))


COUNTERPARTS = {
    "mlp_regressor": Counterpart(
        lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)),
        {"0": "0", "2": "1", "4": "2"},
    ),
    "mlp_classifier": Counterpart(classifier, {"body.0": "0", "body.2": "1", "top": "2"}),
    "mlp_binary": Counterpart(
        lambda: nn.Sequential(nn.Linear(6, 7), nn.Sigmoid(), nn.Linear(7, 1), nn.Sigmoid()), {"0": "0", "2": "1"}
    ),
}
