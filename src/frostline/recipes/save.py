"""A trained model as a file: safetensors, with a JSON beside it that describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from frostline.core.io import make_folder, read_json
from frostline.core.new_files import write_atomic, write_json


def about(weights: Path) -> dict[str, Any]:
    """The content of the JSON beside saved weights; empty if there is none."""
    path = weights.with_suffix(".json")
    return read_json(path) if path.is_file() else {}


def save_model(model: nn.Module, folder: Path, facts: dict[str, Any], name: str = "model") -> Path:
    """Write `model.safetensors` and `model.json` into a folder, each at once.

    Args:
        model: Its whole state is written; tied tensors under each of their names.
        folder: It is made if it is missing.
        facts: The content of the JSON: how the model was built, its classes, settings that its weights do not hold.
        name: Of both files, if it shall not be `model`.

    Returns:
        The path of the safetensors file.
    """
    make_folder(folder)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    path = folder / f"{name}.safetensors"
    write_atomic(path, [save(state)])
    write_json(folder / f"{name}.json", facts)
    return path
