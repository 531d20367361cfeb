"""Whether what a model gives for different rows points the same way: representations that have collapsed.

Legend: B rows, D values of an output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from frostline.core import inputs as batches
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.probes.modes import vary

if TYPE_CHECKING:
    from torch import nn

_FEWEST_ROWS, _FEWEST_VALUES = 8, 4


def spread_of_directions(model: nn.Module, inputs: Any) -> float | None:
    """How far the unit vectors of the outputs are from their mean, 0 to 1; None where that says nothing.

    Args:
        model: Runs in evaluation mode, and is left as it is; of several outputs, the first counts.
        inputs: Of a batch whose rows differ.
    """
    leaves = batches.leaves(inputs)
    size = min((len(tensor) for tensor in leaves.values() if tensor.dim()), default=0)
    if size < _FEWEST_ROWS or not vary(inputs, size):
        return None
    with evaluation(model), torch.no_grad():
        seed_generators(0)
        found = [one for one in batches.leaves(batches.call(model, inputs)).values() if one.is_floating_point()]
    if not found or found[0].dim() < 2 or len(found[0]) != size:
        return None
    outputs_BD: Tensor = found[0].detach().flatten(1).float()
    if outputs_BD.shape[1] < _FEWEST_VALUES or not bool(torch.isfinite(outputs_BD).all()):
        return None
    units_BD = F.normalize(outputs_BD, dim=1)
    return float((units_BD - units_BD.mean(0)).norm() / units_BD.norm().clamp_min(1e-12))
