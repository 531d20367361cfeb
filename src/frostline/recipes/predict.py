"""Use what `frostline fit` has trained: load a run, predict samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline.core.arguments import as_count, as_path
from frostline.core.doors import public
from frostline.core.errors import FOREIGN, DataError
from frostline.core.io import read_json
from frostline.core.layers import resolve
from frostline.core.restore import kept_generators, kept_modes
from frostline.core.workers import in_workers
from frostline.data import CenterCrop
from frostline.data.arrays import load_inputs
from frostline.data.images import decoded, image_files
from frostline.recipes.model_facts import AS_THE_MODEL_SAYS, CROP
from frostline.recipes.models import build_model, transform_of
from frostline.recipes.pretrained import set_settings
from frostline.selection import hidden_layer, with_module
from frostline.training import output_of
from frostline.transfer import replace_head


@dataclass(frozen=True)
class LoadedRun:
    """A trained model, and what is needed to use it.

    Attributes:
        model: In evaluation mode, with the weights of the best epoch.
        classes: Names of the classes, in the order of the outputs.
        preprocess: callable(PIL image) -> float32 (3, H, W); None if images, or arrays, are used as they are.
        info: The content of `model.json`: how the model is built, the best epoch, the metric, versions.
    """

    model: nn.Module
    classes: tuple[str, ...]
    preprocess: Callable[[Any], Any] | None
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one sample.

    Attributes:
        sample: The path of the image, or the index of the row.
        label: The most probable class.
        probabilities: By class, in the order of the classes; they sum to 1.
    """

    sample: str
    label: str
    probabilities: Mapping[str, float]


@public("load")
def load(run: str | Path) -> LoadedRun:
    """The model that `frostline fit` has trained, ready to predict.

    Args:
        run: The folder that `--out` named; it holds `model.json` and `model.safetensors`.

    Raises:
        DataError: If the folder holds no such run, its model cannot be built, or its weights are of another model.
    """
    folder = as_path("load", "run", run)
    facts = _facts(folder)
    if facts.get("treated"):
        raise _wrong(
            "The layers of this network were changed by a treatment.", folder, "; ".join(map(str, facts["treated"])),
            "build the treated network in Python and load model.safetensors there, or train again without --heal.",
        )  # fmt: skip
    classes = tuple(map(str, facts["classes"]))
    with kept_generators():
        model = build_model(str(facts["model"]))
        replace_head(model, len(classes), name=facts.get("head"))
    if facts.get("hidden"):
        _put_hidden_layer(model, facts["hidden"])
    weights = folder / "model.safetensors"
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise _wrong("The weights of this run cannot be read.", weights, f"{type(error).__name__}: {error}",
                     "train again, or copy the whole folder again.") from error  # fmt: skip
    except RuntimeError as error:
        raise _wrong("The weights are not those of the model.", weights, str(error).splitlines()[-1].strip(),
                     f"build the model as it was trained: has {facts['model']} changed?") from error  # fmt: skip
    set_settings(model, facts.get("settings") or {}, weights)
    return LoadedRun(model.eval(), classes, _preparation(facts.get("images"), model), facts)


@public("predict")
def predict(
    run: LoadedRun | str | Path, data: str | Path, *, batch_size: int = 64, num_workers: int = 0
) -> tuple[Prediction, ...]:  # fmt: skip
    """The classes of new samples, with their probabilities.

    Args:
        run: What `load` gave, or the folder of a run.
        data: An image, a folder of images (subfolders included; their names mean nothing here), or an `.npz` or
            `.safetensors` with an array `x`.
        batch_size: Samples per pass.
        num_workers: Processes that decode images.

    Returns:
        One prediction per sample, in the order of paths or rows. The model is evaluated without dropout whatever mode
        it is in, and stays on the device that it was moved to: a GPU if there is one.

    Raises:
        DataError: If the run or the data cannot be read, the data is of another shape than the model takes, or outputs
            are not finite.
    """
    loaded = run if isinstance(run, LoadedRun) else load(run)
    batch_size = as_count("predict", "batch_size", batch_size)
    num_workers = as_count("predict", "num_workers", num_workers, least=0)
    place = as_path("predict", "data", data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = loaded.model.to(device)
    found: list[Prediction] = []
    with torch.inference_mode(), kept_modes(model):
        model.eval()
        for names, inputs in batches_of(place, loaded.preprocess, batch_size, num_workers):
            try:
                output = output_of(model(inputs.to(device)))
            except FOREIGN as error:
                known: Any = loaded.info.get("input")
                shape = f": (batch, {', '.join(map(str, known['shape']))})" if isinstance(known, dict) else ""
                raise _wrong("The model does not take this data.", place, f"inputs {tuple(inputs.shape)}: {error}",
                             f"pass data of the shape that the model was trained on{shape}; images are resized if the "
                             "run was trained with --size.") from error  # fmt: skip
            if not bool(torch.isfinite(output).all()):
                raise _wrong("The outputs of the model are not finite.", place, f"NaN or Inf for {names[0]} and others",
                             "check these inputs and the weights of the run.")  # fmt: skip
            for name, row in zip(names, output.float().softmax(dim=1).tolist(), strict=True):
                label = loaded.classes[max(range(len(row)), key=row.__getitem__)]
                found.append(Prediction(name, label, dict(zip(loaded.classes, row, strict=True))))
    return tuple(found)


def _preparation(images: Any, model: nn.Module) -> Callable[[Any], Any] | None:
    if images == AS_THE_MODEL_SAYS:
        return transform_of(model)
    crop = cast("dict[str, Any]", images).get(CROP) if isinstance(images, dict) else None
    if images is not None and (not isinstance(crop, dict) or not set(crop) <= {"size", "mean", "std"}):
        raise DataError(
            what="The preparation of images in model.json is not known.", where="model.json: images",
            received=repr(images)[:80], do="load the run with the version of frostline that model.json names.",
        )  # fmt: skip
    return CenterCrop(**crop) if crop is not None else None


def _put_hidden_layer(model: nn.Module, hidden: Mapping[str, Any]) -> None:
    """The hidden layer that a sweep has put before the output layer."""
    linear = resolve(model, hidden["layer"])
    if isinstance(linear, nn.Linear):
        made = hidden_layer(linear, int(hidden["width"]), float(hidden["dropout"] or 0), seed=0)
        with_module(model, hidden["layer"], made)


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        raise _wrong("There is no trained model in this folder.", folder, "no model.json",
                     "pass the folder that frostline fit --out names.")  # fmt: skip
    facts = read_json(path)
    if not isinstance(facts.get("model"), str) or not isinstance(facts.get("classes"), list) or not facts["classes"]:
        raise _wrong("This file does not state how the model is built.", path, ", ".join(sorted(facts)) or "nothing",
                     "pass the folder of a run of frostline fit.")  # fmt: skip
    return facts


def batches_of(
    place: Path, preprocess: Callable[[Any], Any] | None, size: int, num_workers: int = 0
) -> Iterator[tuple[list[str], Tensor]]:  # fmt: skip
    """Names and inputs (B, ...) of the samples at a path: images, or the rows of an array."""
    if place.suffix in (".npz", ".safetensors"):
        inputs = load_inputs(place)
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            yield [str(start + at) for at in range(len(part))], part
        return
    files = image_files(place)
    parts = [files[start : start + size] for start in range(0, len(files), size)]
    yield from in_workers(partial(_images, preprocess=preprocess), parts, num_workers)


def _images(files: list[Path], preprocess: Callable[[Any], Any] | None) -> tuple[list[str], Tensor]:
    images = [decoded(file, preprocess) for file in files]
    if len({tuple(image.shape) for image in images}) > 1:
        odd = next(file for file, image in zip(files, images, strict=True) if image.shape != images[0].shape)
        raise _wrong("The images have different sizes, and the run does not resize them.", odd,
                     f"{files[0].name} is {tuple(images[0].shape)}",
                     "train with --size, or pass images of one size.")  # fmt: skip
    return [str(file) for file in files], torch.stack(images)


def _wrong(what: str, where: Path, received: str, do: str) -> DataError:
    return DataError(what=what, where=str(where), received=received, do=do)
