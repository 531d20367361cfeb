"""`frostline cache`: list, count, verify and export cached features, and delete those that are not wanted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.options import CacheFolder, Data, Json, Mean, Model, Size, Std, loaded
from frostline.cli.output import PlainCommand, errors_in_four_parts, show, table
from frostline.core.arguments import as_bytes, as_path
from frostline.core.errors import DataError
from frostline.core.shelf import is_url
from frostline.recipes.models import augmented_images

if TYPE_CHECKING:
    from frostline.caching import FeatureCache

cache_app = typer.Typer(no_args_is_help=True, help="List, count, verify, export or delete cached features.")
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _existing(cache: str) -> FeatureCache:
    """The cache in a folder that exists, or under a URL.

    Raises:
        DataError: If there is no such folder.
    """
    from frostline.caching import FeatureCache

    if not is_url(cache) and not as_path("frostline cache", "--cache", cache).is_dir():
        raise DataError(
            what="There is no cache at this path.", where="frostline cache", received=f"{cache}, which is no folder",
            do="pass the folder of fit(cache=...), or the cache in the folder of --out, such as frostline-out/cache.",
        )  # fmt: skip
    return FeatureCache(cache)


@cache_app.command("ls", cls=PlainCommand)
def list_cache(cache: CacheFolder, as_json: Json = False) -> None:
    """List what a cache holds."""
    from frostline.caching.upkeep.stats import ENTRY_CELLS

    with errors_in_four_parts(as_json=as_json):
        entries = _existing(cache).entries()
        text = (
            table([entry.cells() for entry in entries], ENTRY_CELLS)
            if entries
            else f"No features are stored in {cache}."
        )
        show({"entries": entries}, text, as_json=as_json)


@cache_app.command(cls=PlainCommand)
def stats(cache: CacheFolder, as_json: Json = False) -> None:
    """Count rows, shards and bytes: live, waiting to be deleted, left behind."""
    from frostline.caching.upkeep.stats import CELLS

    with errors_in_four_parts(as_json=as_json):
        found = _existing(cache).stats()
        text = f"{table([own.cells() for own in found.recipes], CELLS)}\n\n{found}" if found.recipes else str(found)
        show(found, text, as_json=as_json)


@cache_app.command(cls=PlainCommand)
def verify(cache: CacheFolder, as_json: Json = False) -> None:
    """Check every shard against its digest; exit code 1 if something is wrong."""
    with errors_in_four_parts(as_json=as_json):
        problems = _existing(cache).verify()
        show({"problems": problems}, "\n".join(problems) or "Every shard has the digest in its name.", as_json=as_json)
        if problems:
            raise typer.Exit(1)


@cache_app.command(cls=PlainCommand)
def export(
    cache: CacheFolder,
    out: Annotated[str, typer.Option(help="The new file: .safetensors, or .parquet (needs frostline[parquet]).")],
    recipe: Annotated[str | None, typer.Option(help="This recipe (its first letters); default: the only one.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write stored rows with their ids as one plain file, which other tools read."""
    with errors_in_four_parts(as_json=as_json):
        result = _existing(cache).export(out, recipe=recipe)
        show(result, str(result), as_json=as_json)


@cache_app.command(cls=PlainCommand)
def purge(
    cache: CacheFolder,
    recipe: Annotated[str | None, typer.Option(help="Only this recipe (its first letters).")] = None,
    yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Delete stored features; they can be computed again."""
    with errors_in_four_parts(as_json=as_json):
        found = _existing(cache)
        _confirm("purge", f"Delete the stored features in {cache}?", is_confirmed=yes)
        freed = found.purge(recipe)
        show({"freed_bytes": freed}, f"{freed / 1e6:.1f} MB freed.", as_json=as_json)


@cache_app.command(cls=PlainCommand)
def prune(
    cache: CacheFolder,
    max_bytes: Annotated[
        str | None, typer.Option(help="Delete until the cache takes no more than this: 500MB, 20GB, or bytes.")
    ] = None,
    unused_days: Annotated[float | None, typer.Option(help="Delete what was not used for so many days.")] = None,
    yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Delete the features that were used longest ago; what somebody uses stays."""
    with errors_in_four_parts(as_json=as_json):
        found, limit = _existing(cache), as_bytes("--max-bytes", max_bytes) if max_bytes is not None else None
        _confirm("prune", f"Delete the features in {cache} that were used longest ago?", is_confirmed=yes)
        result = found.prune(max_bytes=limit, unused_days=unused_days)
        show(result, str(result), as_json=as_json)


@cache_app.command(cls=PlainCommand)
def forget(
    data: Data, model: Model, cache: CacheFolder, size: Size = None, mean: Mean = None, std: Std = None,
    views: Annotated[int | None, typer.Option(help="As fit was given them.")] = None,
    augment: Annotated[str | None, typer.Option(help="As fit was given it.")] = None,
    yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Delete the stored features of the samples in DATA for good; pass the options that fit was given."""
    with errors_in_four_parts(as_json=as_json):
        found = _existing(cache)
        built, dataset, _ = loaded(model, data, pixels=(size, mean, std))
        if views is not None or augment is not None:
            dataset = augmented_images(dataset, built, augment if augment is not None else "crop,flip")
        _confirm("forget", f"Delete the features of {len(dataset)} samples from {cache}?", is_confirmed=yes)
        rows = found.forget(dataset, views=views)
        text = (
            f"{rows} rows deleted." if rows else "No row of these samples is stored; were other options used to fill?"
        )
        show({"deleted_rows": rows}, text, as_json=as_json)


def _confirm(command: str, question: str, *, is_confirmed: bool) -> None:
    """Ask before anything is deleted.

    Raises:
        DataError: If there is no terminal to confirm on.
    """
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise DataError(
            what="Deleting stored features needs a confirmation.", where=f"frostline cache {command}",
            received="no terminal for a confirmation, and no --yes", do="add --yes to the command.",
        )  # fmt: skip
    typer.confirm(question, abort=True)
