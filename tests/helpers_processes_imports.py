"""What the fork server of `helpers_processes` imports once, for all processes that it forks."""

import importlib

import torch

from helpers_vision import import_torchvision

torch.set_num_threads(1)  # as in the tests: sums are rounded by thread
import_torchvision()
for name in ("frostline.cli.main", "torch._dynamo", "timm"):
    importlib.import_module(name)
