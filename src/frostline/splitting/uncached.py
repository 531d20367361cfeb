"""The uncached twin of a cached training: the model without the noise that its split leaves out."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.restore import (
    generator_states,
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_modes,
    kept_parameters,
)
from frostline.splitting.plan.recordings import noise_of_frozen_side
from frostline.splitting.plan.samples import FAR, LARGE, PROOF, SMALL, batch_of, other_values
from frostline.splitting.proof.verification import kernels_for
from frostline.splitting.recording.omitted_noise import quieted

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from frostline.core.restore import GeneratorStates


@contextmanager
def frozen_side_in_inference_mode(model: nn.Module, example: Any) -> Generator[tuple[str, ...]]:
    """For the time of the block, the model leaves out the noise that its split leaves out.

    An uncached training is then the same as a cached one. Gives what people should know of it.

    Args:
        model: Any module, frozen in part.
        example: A batch as the model takes it.
    """
    with kept_model(model):
        quiet = noise_of_frozen_side(model, example)
    with quieted(model, quiet):
        yield tuple(quiet.values())


@contextmanager
def kept_model(model: nn.Module) -> Generator[None]:
    """After the block the model is as it was before."""
    with (
        kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators(),
        kept_parameters(model), kernels_for(model),
    ):  # fmt: skip
        yield


def run_on_others(model: nn.Module, example: Any) -> GeneratorStates:
    """Run the model as a split runs it, in both modes and at its sizes, on other samples with other values.

    Returns:
        Where this has left the global generators, before they are put back.
    """
    with kept_model(model), torch.no_grad():
        for is_training in (True, False):
            model.train(is_training)
            for size in (SMALL, LARGE, PROOF, FAR):
                with suppress(Exception):  # it may take no such batch
                    batches.call(model, other_values(batch_of(example, size, start=1)))
        return generator_states()
