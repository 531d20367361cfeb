"""The content of `model.json`: how a model of the command line was built and trained, which its weights do not hold."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.data import CenterCrop, ImageFolder
from frostline.recipes.command_model import classes_of
from frostline.recipes.save import about

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

AS_THE_MODEL_SAYS, CROP = "as the model says", "crop"  # how images are prepared


def model_facts(
    model: str, dataset: Any, *, best_epoch: int, epochs: int, head: str | None, freeze: str | None,
    metric: Sequence[str], weights: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The facts of a run, as `load` and `--weights` read them.

    Args:
        model: The option `--model`.
        dataset: The whole data of the command.
        best_epoch: Whose weights are saved.
        epochs: That were trained.
        head: Name of the output layer, where it was given.
        freeze: The option `--freeze`.
        metric: Names; the first chose the best epoch.
        weights: The file from which the model was loaded: settings that belong to these weights are facts of the new
            ones as well.
    """
    facts: dict[str, Any] = {"model": model, "classes": classes_of(dataset), "best_epoch": best_epoch, "head": head}
    facts |= {"images": _prepared_by(dataset), "metric": list(metric), "freeze": freeze, "versions": _versions()}
    facts |= {"data": "images" if isinstance(dataset, ImageFolder) else "arrays", "input": _shape_of_sample(dataset)}
    settings = about(Path(weights)).get("settings") if weights is not None else None
    return facts | {"epochs": epochs} | ({"settings": settings} if settings else {})


def _prepared_by(dataset: Any) -> Any:
    """How the images of a dataset are prepared, as `model.json` has it; None if they are used as they are."""
    if not isinstance(dataset, ImageFolder) or dataset.transform is None:
        return None
    return {CROP: asdict(dataset.transform)} if isinstance(dataset.transform, CenterCrop) else AS_THE_MODEL_SAYS


def _shape_of_sample(dataset: Any) -> dict[str, Any]:
    """Shape and dtype of one input, as `model.json` has it."""
    inputs: Tensor = dataset[0][0]
    return {"shape": list(inputs.shape), "dtype": str(inputs.dtype).removeprefix("torch.")}


def _versions() -> dict[str, str]:
    """What the run was made with."""
    return {name: version(name) for name in ("frostline", "torch")}
