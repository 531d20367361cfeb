"""Options that several commands have, or that take more than a line; the model and data that they name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from frostline.core.arguments import as_seed
from frostline.core.restore import seed_generators
from frostline.recipes.models import as_transform, build_model, load_data

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Data = Annotated[str, typer.Argument(help="A folder of images, one subfolder per class; or .npz / .safetensors.")]
Model = Annotated[str, typer.Option("--model", help="timm:NAME or package.module:function.")]
Weights = Annotated[str | None, typer.Option(help="A file of weights, of any framework.")]
CertificateFile = Annotated[
    str | None, typer.Option("--certificate", help="Save the certificate here if the weights are ported.")
]
Size = Annotated[int | None, typer.Option(help="Images: resize and cut to squares of so many pixels.")]
Mean = Annotated[str | None, typer.Option(help="Images: mean of red, green, blue; default: ImageNet's.")]
Std = Annotated[str | None, typer.Option(help="Images: standard deviation of red, green, blue.")]
Freeze = Annotated[str | None, typer.Option(help="Freeze through this layer; default: all but the new head.")]
FirstLine = Annotated[
    str | None, typer.Option(help="Freeze through this layer, or auto or converged; default: all but the new head.")
]
Workers = Annotated[int, typer.Option("--workers", help="Processes that read and decode samples.")]
CacheFolder = Annotated[
    str, typer.Option("--cache", help="The cache: a folder, or a URL such as s3://bucket/features.")
]
AutoCache = Annotated[
    bool, typer.Option("--auto-cache", help="Store what costs least, or nothing where training is quicker without.")
]
Views = Annotated[int | None, typer.Option(help="Augment images, and keep so many views of each.")]
Augment = Annotated[str | None, typer.Option(help="crop, flip, colour; default with --views: crop,flip.")]
FrozenPass = Annotated[list[str] | None, typer.Option(help="channels_last, fold, bf16, compile: faster.")]
RunCache = Annotated[
    str | None,
    typer.Option("--cache", help="Where features are kept: a folder, or a URL such as s3://bucket/features."),
]
StorageType = Annotated[
    str, typer.Option("--storage", help="Of cached features: exact, float16, bfloat16, or int8 (rounded).")
]


def loaded(
    model: str, data: str, val: str | None = None, *, pixels: tuple[int | None, str | None, str | None], seed: int = 0
) -> tuple[Any, Any, Any]:
    """(the model, its data, its validation data or None) that the options name; `pixels` are size, mean and std."""
    seed_generators(as_seed("frostline", "--seed", seed))  # random layers are the same in a run that is resumed
    built, transform = build_model(model), as_transform(*pixels)
    dataset = load_data(data, built, transform)
    return built, dataset, load_data(val, built, transform) if val is not None else None
