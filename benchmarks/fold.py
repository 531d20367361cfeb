"""Folding BatchNorm for prediction: the largest difference, and the time of a prediction before over after.

The statistics are estimated from data first: with those a network starts with (mean 0, variance 1) folding is trivial.
One thread, the two models in turns.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

import frostline as fl
from common import paired
from helpers_vision import import_torchvision

MODELS = ("resnet18", "mobilenetv3_small_100", "densenet121")


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Of each model: what was folded, the difference in float32 (to reach: at most 1e-5), the speed-up."""
    import_torchvision()
    import timm

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = MODELS[:1] if is_quick else MODELS
        return {key: value for name in names for key, value in _fold(timm, name, device, 2 if is_quick else 21).items()}
    finally:
        torch.set_num_threads(threads)


def _fold(timm: Any, name: str, device: str, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10).to(device)
    _live(model, device)
    folded = copy.deepcopy(model)
    certificate = fl.remedies.fold_batchnorm(folded, torch.randn(8, 3, 128, 128, device=device))
    figures: dict[str, Any] = {
        f"{name}: folded, refused": f"{len(certificate.folded)}, {len(certificate.refused)}",
        f"{name}: largest difference / largest output": f"{certificate.largest_difference:.1e}",
    }
    for size in (1, 8):
        images = torch.randn(size, 3, 128, 128, device=device)
        with torch.inference_mode():
            before, after = (lambda m=m, i=images: m(i) for m in (model, folded))
            before(), after()
            figures[f"{name}: before / after, batch {size} at 128 px"] = paired(before, after, rounds, device)
    return figures


def _live(model: nn.Module, device: str) -> None:
    """Scales and shifts as after a training, and statistics of data."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
        model.train()
        for _ in range(3):
            model(torch.randn(8, 3, 128, 128, device=device))
    model.eval()
