"""Golden outputs in the forms that users pass: a pair of arrays, or a `.npz` file."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.errors import FOREIGN, DataError
from frostline.core.inputs import are_finite, call, leaves, map_tensors
from frostline.core.restore import undisturbed
from frostline.porting.proof.module_outputs import Golden


def as_golden(given: Any) -> Golden:
    """Inputs and outputs of the source network, or real samples without outputs.

    Args:
        given: `(inputs, outputs)` as arrays or tensors, several of them in tuples or mappings; `(inputs, None)`; or the
            path of a `.npz` file with arrays `inputs` and `outputs` (several: `inputs_0`, `inputs_1`, ...), or with
            inputs only.

    Raises:
        DataError: If it is none of these, or the outputs are empty, NaN or infinite.
    """
    if isinstance(given, (str, Path)):
        given = _from_file(Path(given))
    if not isinstance(given, (tuple, list)) or len(cast("tuple[Any, ...]", given)) != 2:
        raise _refused(f"a value of type {type(given).__name__}")
    inputs, outputs = cast("tuple[Any, Any]", given)
    made = _mapped(inputs)
    if outputs is None:
        return Golden(made, ())
    found = tuple(
        _mapped(one) for one in (cast("list[Any]", outputs) if isinstance(outputs, (tuple, list)) else [outputs])
    )
    if not found or not all(isinstance(one, Tensor) and one.numel() for one in found):
        raise _refused("outputs without values")
    if not are_finite(found):
        raise _refused("outputs that are NaN or infinite")
    return Golden(made, found)


def fitted(golden: Golden, model: nn.Module) -> tuple[Golden, tuple[str, ...]]:
    """Convert inputs to the dtype and the device of the module.

    Arrays of NumPy are float64 by default; the dtype of the module is that of its first weight.

    Args:
        golden: The golden outputs as they were passed.
        model: The module.

    Returns:
        The golden outputs, and a note for each dtype that was converted.
    """
    weight = next((one for one in model.parameters() if one.is_floating_point()), None)
    if weight is None:
        return golden, ()
    own = weight.dtype
    found = {one.dtype for one in leaves(golden.inputs).values() if one.is_floating_point()} - {own}
    inputs = map_tensors(golden.inputs, lambda one: one.to(weight if one.is_floating_point() else weight.device))
    notes = tuple(f"inputs converted from {_shown(dtype)} to {_shown(own)}" for dtype in sorted(found, key=str))
    return replace(golden, inputs=inputs), notes


def check_taken(golden: Golden, model: nn.Module) -> None:
    """Run the module once on the inputs, to find unsuitable ones before anything is ported.

    Raises:
        DataError: If the module cannot be run on them, or they are NaN or infinite.
    """
    if not are_finite(golden.inputs):
        raise _refused("inputs that are NaN or infinite")
    try:
        with undisturbed(model), torch.no_grad():
            call(model, golden.inputs)
    except FOREIGN as error:
        shapes = ", ".join(f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}"
                           for one in leaves(golden.inputs).values())  # fmt: skip
        raise DataError(
            what="The module cannot be run on these inputs.", where="port(golden=...)",
            received=f"{shapes}: {str(error).splitlines()[0][:160] if str(error) else type(error).__name__}",
            do="pass golden=(inputs, outputs) with inputs in the form that the module takes, not the source network: "
            "images as floats with channels on axis 1, tokens as integers.",
        ) from error  # fmt: skip


def _shown(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _mapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _mapped(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return tuple(_mapped(one) for one in cast("list[Any]", value))
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(value))
    raise _refused(f"a value of type {type(value).__name__}")


def _from_file(path: Path) -> tuple[Any, Any]:
    """Inputs, and outputs or None."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise _refused(f"{path} with one array without a name (.npy)")
        with arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _refused(f"{path}: {error}") from error
    inputs = [found[name] for name in sorted(found) if name.startswith("inputs")]
    outputs = [found[name] for name in sorted(found) if name.startswith("outputs")]
    if not inputs or (not outputs and len(inputs) != len(found)):
        raise _refused(f"{path} with arrays {', '.join(sorted(found))}")
    return (inputs[0] if len(inputs) == 1 else tuple(inputs)), outputs or None


def _refused(received: str) -> DataError:
    return DataError(
        what="Golden outputs consist of inputs and of the source network's outputs for them.",
        where="port(golden=...)", received=received,
        do="pass (inputs, outputs) as arrays, in the form that the module takes and returns; or the path of a .npz "
        "file with arrays named inputs and outputs. (inputs, None) compares values on real samples with the "
        "running statistics of BatchNorm.",
    )  # fmt: skip
