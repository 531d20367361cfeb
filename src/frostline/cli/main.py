"""The command `frostline`: it reads options, calls a recipe, and shows what comes back."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from frostline.cli import options as o
from frostline.cli.cache import cache_app
from frostline.cli.output import csv_text, errors_in_four_parts, show, table
from frostline.core.arguments import as_path
from frostline.core.errors import DataError
from frostline.core.shelf import is_url
from frostline.recipes.models import build_model

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(cache_app, name="cache")


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"frostline {version('frostline')}, torch {version('torch')}\n")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Reuse pretrained layers: freeze them, run them once per sample, train the rest at memory speed."""
    signal.signal(signal.SIGTERM, _stop)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Where the files go.")] = "frostline-demo", as_json: o.Json = False
) -> None:
    """Reuse a network for another task: the same result, in less time, shown on real scans."""
    from frostline.demo.demo import run_demo

    with errors_in_four_parts(as_json=as_json):
        result = run_demo(Path(out))
        show(result, result.text(), as_json=as_json)


@app.command()
def fit(
    data: o.Data, model: o.Model, weights: o.Weights = None, freeze: o.FirstLine = None,
    val: Annotated[str | None, typer.Option(help="Validation data, like DATA.")] = None,
    val_share: Annotated[float | None, typer.Option(help="Or this share of DATA.")] = None,
    epochs: int = 10, batch_size: int = 64, lr: float = 1e-3, seed: int = 0,
    optimizer: Annotated[str, typer.Option(help="adamw, adam, sgd or rmsprop.")] = "adamw",
    scheduler: Annotated[str | None, typer.Option(help="cosine, linear or step; default: a constant rate.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without improvement.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="accuracy (the default), f1, top5, auroc; several times: the first chooses the best epoch."),
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option(help="balanced (by counts of the training samples), or one per class: 1,2,0.5.")
    ] = None,
    label_smoothing: Annotated[float, typer.Option(help="Share of probability spread over all classes.")] = 0.0,
    head: Annotated[str | None, typer.Option(help="Name of the output layer, where it cannot be found.")] = None,
    size: o.Size = None, mean: o.Mean = None, std: o.Std = None, workers: o.Workers = 0,
    out: Annotated[str, typer.Option(help="Where model, logs and cache go: a new folder.")] = "frostline-out",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out; its cache stays.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Train uncached, for comparison.")] = False,
    auto_cache: o.AutoCache = False, storage: o.StorageType = "exact",
    heal: Annotated[bool, typer.Option("--heal", help="Treat what keeps the model from learning first.")] = False,
    thaw: Annotated[
        str | None,
        typer.Option(help="Thaw layers in training: plateau; 3:layer4,5:layer3 by epoch; or layer4,layer3. * is all."),
    ] = None,
    thaw_every: Annotated[int, typer.Option(help="With a list of layers, epochs from one thaw to the next.")] = 1,
    thaw_patience: Annotated[int, typer.Option(help="With plateau, epochs without improvement before a thaw.")] = 2,
    thaw_factor: Annotated[float, typer.Option(help="Each thaw trains with the rate before, divided by this.")] = 2.6,
    thaw_warmup: Annotated[float, typer.Option(help="Epochs in which the rate of thawed layers rises.")] = 0.5,
    keep_statistics: Annotated[
        bool, typer.Option("--keep-statistics", help="Running statistics of thawed BatchNorms stay as they are.")
    ] = False,
    accumulation: Annotated[int, typer.Option(help="Batches of one step.")] = 1,
    warmup: Annotated[float, typer.Option(help="Epochs in which the learning rate rises.")] = 0.0,
    scheduler_interval: Annotated[str, typer.Option(help="The scheduler moves after every epoch or step.")] = "epoch",
    ema: Annotated[float | None, typer.Option(help="Average the weights; each step keeps this share: 0.99.")] = None,
    logger: Annotated[str | None, typer.Option(help="tensorboard: figures go to OUT/tensorboard, too.")] = None,
    views: o.Views = None, augment: o.Augment = None, frozen_pass: o.FrozenPass = None, cache: o.RunCache = None,
    devices: Annotated[int, typer.Option(help="GPUs, or processes on the CPU, that train together.")] = 1,
    engine: Annotated[str, typer.Option(help="Who fills the cache: local, or ray for a Ray cluster.")] = "local",
    certificate: o.CertificateFile = None, as_json: o.Json = False,
) -> None:  # fmt: skip
    """Train a new head, or more, on your data."""
    from frostline.recipes.commands import fit_command
    from frostline.recipes.schedules import thaw_schedule

    with errors_in_four_parts(as_json=as_json):
        built, dataset, val_data = o.loaded(model, data, val, pixels=(size, mean, std), seed=seed)
        if val is not None and val_share is not None:
            raise DataError(
                what="Validation data is given twice.", where="--val and --val-share", received=f"{val}, {val_share}",
                do="give one of the two.",
            )  # fmt: skip
        folder = _outside(as_path("frostline fit", "--out", out), data)
        schedule = thaw_schedule(thaw, every=thaw_every, patience=thaw_patience, factor=thaw_factor,
                                 warmup=thaw_warmup, keep_statistics=keep_statistics)  # fmt: skip
        result = fit_command(
            built, dataset, val_data, name=model, weights=weights, freeze=freeze, val_share=val_share, epochs=epochs,
            batch_size=batch_size, lr=lr, seed=seed, out=folder, resume=resume, heal=heal, storage=storage,
            cache=_cached(no_cache, auto_cache, cache, engine, folder),
            certificate=certificate, optimizer=optimizer, scheduler=scheduler, patience=patience, head=head,
            metric=metric or ["accuracy"], class_weights=class_weights, label_smoothing=label_smoothing,
            num_workers=workers, overwrite=overwrite, thaw=schedule, views=views, augment=augment,
            accumulation=accumulation, warmup=warmup, scheduler_interval=scheduler_interval, ema=ema, logger=logger,
            frozen_pass=frozen_pass, devices=devices,
        )  # fmt: skip
        show(result, result.text(), as_json=as_json)


def _cached(no_cache: bool, auto_cache: bool, cache: str | None, engine: str, out: Path) -> Any:
    """`cache` of `fit`, as the options say."""
    if engine != "local":
        from frostline.caching import FeatureCache

        if no_cache or auto_cache:
            raise DataError(
                what="This run does not fill its cache for sure, so that no cluster can.", where="--engine",
                received=f"--engine {engine} with {'--no-cache' if no_cache else '--auto-cache'}",
                do="leave that flag, or --engine, out.",
            )  # fmt: skip
        return FeatureCache(out / "cache" if cache is None else cache, engine=engine)
    if cache is not None and (no_cache or auto_cache):
        raise DataError(
            what="A run keeps its features in one place, or in none.", where="--cache",
            received=f"{cache if not is_url(cache) else 'a URL'} and {'--no-cache' if no_cache else '--auto-cache'}",
            do="give one of the two.",
        )  # fmt: skip
    if cache is not None:
        return cache
    if no_cache and auto_cache:
        raise DataError(
            what="A run cannot both leave out its cache and plan it.", where="--no-cache and --auto-cache",
            received="both", do="give one of the two.",
        )  # fmt: skip
    return "auto" if auto_cache else not no_cache


def _outside(out: Path, data: str) -> Path:
    """The folder of a run, which is not among the images: its subfolders would be taken as classes.

    Raises:
        DataError: If it is.
    """
    if Path(data).resolve() in (out.resolve(), *out.resolve().parents):
        raise DataError(
            what="The folder of a run cannot be inside the folder of the images.", where="--out",
            received=f"{out} in {data}", do="pass a folder beside it, such as --out run.",
        )  # fmt: skip
    return out


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="The folder of a run: what --out named.")],
    data: Annotated[str, typer.Argument(help="An image, a folder of images; or .npz / .safetensors.")],
    batch_size: int = 64, workers: o.Workers = 0, as_json: o.Json = False,
) -> None:  # fmt: skip
    """Predict the classes of new samples; one CSV row each: sample, label, probabilities."""
    from frostline.recipes.predict import load
    from frostline.recipes.predict import predict as predicted

    with errors_in_four_parts(as_json=as_json):
        loaded = load(run)
        found = predicted(loaded, data, batch_size=batch_size, num_workers=workers)
        rows = [(one.sample, one.label, *(f"{p:.6f}" for p in one.probabilities.values())) for one in found]
        show({"predictions": found}, csv_text([("sample", "label", *loaded.classes), *rows]), as_json=as_json)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="The folder of a run: what --out of fit named.")],
    out: Annotated[
        str | None, typer.Option(help="The new file: .pt2 for torch.export or .onnx; default: model.pt2 in RUN.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Samples to compare on; default: noise.")] = None,
    as_json: o.Json = False,
) -> None:
    """Write a trained model as a file for torch.export or ONNX, its BatchNorms folded, and compare the two."""
    from frostline.recipes.export import export as exported

    with errors_in_four_parts(as_json=as_json):
        result = exported(run, as_path("frostline export", "RUN", run) / "model.pt2" if out is None else out, data=data)
        show(result, str(result), as_json=as_json)


@app.command()
def sweep(
    data: o.Data, model: o.Model, weights: o.Weights = None, freeze: o.Freeze = None,
    lr: Annotated[str, typer.Option(help="Learning rates to try, with commas.")] = "0.0003,0.001,0.003,0.01,0.03",
    weight_decay: Annotated[str | None, typer.Option(help="Weight decays to try.")] = None,
    dropout: Annotated[str | None, typer.Option(help="Dropouts before the output layer to try.")] = None,
    width: Annotated[str | None, typer.Option(help="Units of a hidden layer to try; 0 is none.")] = None,
    optimizer: Annotated[str, typer.Option(help="adamw, adam, sgd, rmsprop; probe solves the head.")] = "adamw",
    halving: Annotated[int | None, typer.Option(help="Keep the best of so many after a few epochs.")] = None,
    val: Annotated[str | None, typer.Option(help="Validation data, like DATA.")] = None,
    val_share: Annotated[float, typer.Option(help="Or this share of DATA.")] = 0.2,
    epochs: int = 10, batch_size: int = 64, seed: int = 0,
    metric: Annotated[list[str] | None, typer.Option(help="As of fit: the first ranks the heads.")] = None,
    head: Annotated[str | None, typer.Option(help="Name of the output layer, where it cannot be found.")] = None,
    size: o.Size = None, mean: o.Mean = None, std: o.Std = None, workers: o.Workers = 0,
    out: Annotated[str, typer.Option(help="Where model and cache go: a new folder.")] = "frostline-sweep",
    views: o.Views = None, augment: o.Augment = None, storage: o.StorageType = "exact",
    frozen_pass: o.FrozenPass = None, cache: o.RunCache = None,
    certificate: o.CertificateFile = None, as_json: o.Json = False,
) -> None:  # fmt: skip
    """Train many heads over the same stored features, and save the model with the best."""
    from frostline.recipes.sweep_command import settings_of, sweep_command

    with errors_in_four_parts(as_json=as_json):
        settings = settings_of(lr=lr, weight_decay=weight_decay, dropout=dropout, width=width, optimizer=optimizer)
        built, dataset, val_data = o.loaded(model, data, val, pixels=(size, mean, std), seed=seed)
        folder = _outside(as_path("frostline sweep", "--out", out), data)
        result = sweep_command(
            built, dataset, val_data, name=model, settings=settings, weights=weights, freeze=freeze,
            val_share=val_share, epochs=epochs, batch_size=batch_size, seed=seed, out=folder,
            metric=metric or ["accuracy"], halving=halving, head=head, num_workers=workers, certificate=certificate,
            views=views, augment=augment, storage=storage, frozen_pass=frozen_pass, cache=cache,
        )  # fmt: skip
        show(result, result.text(), as_json=as_json)


@app.command()
def inspect(
    data: o.Data, model: o.Model, freeze: o.Freeze = None, weights: o.Weights = None,
    certificate: o.CertificateFile = None, size: o.Size = None, mean: o.Mean = None, std: o.Std = None,
    as_json: o.Json = False,
) -> None:  # fmt: skip
    """Print the frost line: what is frozen, what would be stored per sample, what it costs."""
    from frostline.recipes.commands import inspect_command

    with errors_in_four_parts(as_json=as_json):
        built, dataset, _ = o.loaded(model, data, pixels=(size, mean, std))
        result = inspect_command(built, dataset, name=model, weights=weights, freeze=freeze, certificate=certificate)
        rows = [(name, kind, str(state), f"{count:,}") for name, kind, state, count in result.layers]
        text = table(rows, ("layer", "type", "state", "parameters"))
        show(result, f"Reused:    {result.reused}\n{result.explanation}\n{result.price}\n\n{text}", as_json=as_json)


@app.command("choose-depth")
def choose_depth(
    data: o.Data, model: o.Model, weights: o.Weights = None, certificate: o.CertificateFile = None,
    samples: Annotated[int, typer.Option(help="Look at so many samples at most.")] = 2000,
    epochs: Annotated[int, typer.Option(help="Epochs of the training whose time is estimated.")] = 10, seed: int = 0,
    workers: o.Workers = 0,
    cache: Annotated[str | None, typer.Option(help="Where pooled features are kept; default: your cache home.")] = None,
    picture: Annotated[str | None, typer.Option(help="Write the scores by line here, as an SVG file.")] = None,
    views: o.Views = None, augment: o.Augment = None, storage: o.StorageType = "exact",
    frozen_pass: o.FrozenPass = None,
    size: o.Size = None, mean: o.Mean = None, std: o.Std = None, as_json: o.Json = False,
) -> None:  # fmt: skip
    """Say how many layers to reuse: every line scored on your data, with what it costs."""
    from frostline.core.new_files import write_atomic
    from frostline.recipes.commands import choose_depth_command

    with errors_in_four_parts(as_json=as_json):
        built, dataset, _ = o.loaded(model, data, pixels=(size, mean, std), seed=seed)
        report = choose_depth_command(
            built, dataset, name=model, weights=weights, certificate=certificate, samples=samples, epochs=epochs,
            seed=seed, num_workers=workers, cache=cache, views=views, augment=augment, storage=storage,
            frozen_pass=frozen_pass,
        )  # fmt: skip
        if picture is not None:
            write_atomic(as_path("frostline choose-depth", "--picture", picture), [report.svg().encode()])
        show(report, str(report), as_json=as_json)


@app.command()
def checkup(
    model: Annotated[str, typer.Argument(help="timm:NAME or package.module:function.")], data: o.Data,
    weights: o.Weights = None, batch_size: int = 64, lr: float = 1e-3,
    steps: Annotated[int, typer.Option(help="Batches to train copies on.")] = 100, seed: int = 0,
    budget: Annotated[float | None, typer.Option(help="Seconds; the time of three epochs is the default.")] = None,
    certificate: o.CertificateFile = None, size: o.Size = None, mean: o.Mean = None, std: o.Std = None,
    as_json: o.Json = False,
) -> None:  # fmt: skip
    """Say what keeps a network from learning: what, how it is known, what to do."""
    from frostline.recipes.commands import checkup_command

    with errors_in_four_parts(as_json=as_json):
        built, dataset, _ = o.loaded(model, data, pixels=(size, mean, std), seed=seed)
        result = checkup_command(
            built, dataset, name=model, weights=weights, batch_size=batch_size, lr=lr, steps=steps,
            seed=seed, certificate=certificate, budget=budget,
        )  # fmt: skip
        show(result, result.text(), as_json=as_json)


@app.command()
def port(
    file: Annotated[str | None, typer.Argument(help="The file of weights, of any framework.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The module: timm:NAME, hf:FOLDER or package.module:function.")
    ] = None,
    out: Annotated[
        str, typer.Option(help="Save the weights here, and the certificate in the same folder.")
    ] = "model.safetensors",
    golden: Annotated[
        str | None, typer.Option("--verify", help="A .npz file: inputs, and the source network's outputs for them.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Allow unassigned layers on both sides.")] = False,
    adapt: Annotated[bool, typer.Option("--adapt", help="Set epsilon, dropout, ... as in the file.")] = False,
    hints: Annotated[str | None, typer.Option(help="JSON: layer of the file to layer of the module.")] = None,
    key: Annotated[str | None, typer.Option(help="The entry of the file with the weights, if it has several.")] = None,
    is_list: Annotated[bool, typer.Option("--list", help="List the tensors of the file.")] = False,
    check: Annotated[str | None, typer.Option(help="Repeat the port of this certificate, and compare.")] = None,
    scaffold: Annotated[str | None, typer.Option(help="Write a module with the file's architecture here.")] = None,
    as_json: o.Json = False,
) -> None:  # fmt: skip
    """Load weights of another framework into a module, and certify how far the result is proven."""
    from frostline.recipes.port_files import list_tensors, port_to_file, write_scaffold
    from frostline.recipes.port_replay import check_certificate, read_certificate

    with errors_in_four_parts(as_json=as_json):
        if check is not None:
            spec = to or read_certificate(check).to
            result = check_certificate(check, build_model(spec), file, golden)
            show(result, result.text(), as_json=as_json)
            return
        if file is not None and scaffold is not None:
            written = write_scaffold(file, scaffold, key)
            show(written, written.text(), as_json=as_json)
            return
        if file is None or (to is None and not is_list):
            raise DataError(
                what="`frostline port` needs a file of weights and a module.", where="frostline port FILE --to MODEL",
                received=f"FILE {file}, --to {to}",
                do="pass both; or list the tensors of a file: frostline port FILE --list.",
            )  # fmt: skip
        if is_list:
            listing = list_tensors(file, key)
            rows = [(name, dtype, str(shape), place) for name, dtype, shape, place in listing.tensors]
            rows += [(name, "", "", f"dropped: {kind}") for name, kind in listing.dropped.items()]
            text = table(rows, ("tensor", "dtype", "shape", "layer: part"))
            show(listing, "\n".join([f"{listing.format}", *listing.notes, text]), as_json=as_json)
            return
        report = port_to_file(
            file, build_model(str(to)), to=str(to), out=out, golden=golden, partial=partial, adapt=adapt, hints=hints,
            key=key,
        )  # fmt: skip
        show(report, report.text(), as_json=as_json)
