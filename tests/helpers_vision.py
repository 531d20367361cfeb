"""Makes torchvision importable beside a torch build that lacks its compiled operators (tests and benchmarks only)."""

from __future__ import annotations

import importlib
import sys

import torch


def import_torchvision():
    """Import torchvision; if its operators are missing, define their schemas first."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.modules["torchvision_schemas"] = library  # type: ignore[assignment]  # a library dies with its last reference
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
