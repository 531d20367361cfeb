"""The command `frostline cache`: what is stored, checked and deleted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.output import Json, errors_in_four_parts, show, table
from frostline.core.arguments import as_path
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from frostline.caching import FeatureCache

cache_app = typer.Typer(no_args_is_help=True, help="List, verify or delete cached features.")
CacheFolder = Annotated[str, typer.Option("--cache", help="The cache folder.")]


def _existing(cache: str) -> FeatureCache:
    """The cache in a folder that exists.

    Raises:
        DataError: If there is no such folder.
    """
    from frostline.caching import FeatureCache

    if not as_path("frostline cache", "--cache", cache).is_dir():
        raise DataError(
            what="There is no cache at this path.", where="frostline cache", received=f"{cache}, which is no folder",
            do="pass the folder of fit(cache=...), or the cache in the folder of --out, such as frostline-out/cache.",
        )  # fmt: skip
    return FeatureCache(cache)


@cache_app.command("ls")
def list_cache(cache: CacheFolder, as_json: Json = False) -> None:
    """List what a cache holds."""
    from frostline.caching.cache import CELLS

    with errors_in_four_parts(as_json=as_json):
        entries = _existing(cache).entries()
        text = table([entry.cells() for entry in entries], CELLS) if entries else f"No features are stored in {cache}."
        show({"entries": entries}, text, as_json=as_json)


@cache_app.command()
def verify(cache: CacheFolder, as_json: Json = False) -> None:
    """Check every shard against its digest; exit code 1 if something is wrong."""
    with errors_in_four_parts(as_json=as_json):
        problems = _existing(cache).verify()
        show({"problems": problems}, "\n".join(problems) or "Every shard has the digest in its name.", as_json=as_json)
        if problems:
            raise typer.Exit(1)


@cache_app.command()
def purge(
    cache: CacheFolder,
    recipe: Annotated[str | None, typer.Option(help="Only this recipe (its first letters).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Delete stored features; they can be computed again."""
    with errors_in_four_parts(as_json=as_json):
        found = _existing(cache)
        if not yes and not sys.stdin.isatty():
            raise DataError(
                what="Deleting stored features needs a confirmation.", where="frostline cache purge",
                received="no terminal for a confirmation, and no --yes", do="add --yes to the command.",
            )  # fmt: skip
        if not yes:
            typer.confirm(f"Delete the stored features in {cache}?", abort=True)
        freed = found.purge(recipe)
        show({"freed_bytes": freed}, f"{freed / 1e6:.1f} MB freed.", as_json=as_json)
