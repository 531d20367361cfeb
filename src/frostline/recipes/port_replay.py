"""The command `frostline port --check`: repeat a port from its certificate, and compare the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from frostline.core.arguments import as_path
from frostline.core.errors import CacheError, DataError, PortError
from frostline.core.io import read_json
from frostline.porting.certificate import RULES, STATISTICS, Certificate
from frostline.porting.readers.folders import weight_path
from frostline.porting.readers.weight_file import digest_of_file
from frostline.recipes.port import port

if TYPE_CHECKING:
    from torch import nn

# Fields of a certificate, other than the mapping, that are the same in every port of the same files.
_COMPARED = ("sha256", "files", "format", "framework", "kept", "unused", "dropped", "proven")


@dataclass(frozen=True)
class Replay:
    """The output of `frostline port --check`."""

    certificate: str
    file: str
    tensors: int
    files: int
    outputs: str

    def text(self) -> str:
        """For people."""
        return (
            f"{self.certificate}: all {self.files} files have the digests of the certificate, and all {self.tensors} "
            f"tensors of the module have the same values as then; {self.outputs}."
        )


def check_certificate(
    path: str, model: nn.Module, source: str | None = None, golden: str | None = None
) -> Replay:  # fmt: skip
    """Repeat a port from its certificate, and compare files, tensors, layouts and settings.

    Args:
        path: The path of the certificate.
        model: The module, built as for the first port.
        source: The path of the file of weights, if it has moved.
        golden: The golden outputs of the first port, to compare the outputs again.

    Raises:
        PortError: If a file has changed, or any result differs.
        DataError: If the certificate cannot be read, or was edited.
    """
    then = read_certificate(path)
    file = source or then.file
    if then.rules != RULES:
        raise PortError(
            what="The certificate was written with another version of the layout rules.", where=path,
            received=f"rules {then.rules}, and {RULES} now",
            do="port the file again: frostline port FILE --to MODEL --out OUT.safetensors.",
        )  # fmt: skip
    _check_files(then, file)
    _check_saved(then, Path(path).parent, model)
    now = port(
        file, model, hints=then.units(), partial=bool(then.kept or then.unused), adapt=then.is_adapted,
        golden=golden, key=then.key or None, like=then,
    )  # fmt: skip
    _check_mapping(path, then, now)
    compared = "; ".join(
        f"the outputs agree again with {run.kind} (relative difference {run.error:.1e})" for run in now.runs
    )
    missing = "the outputs were not compared again: pass --verify golden.npz" if then.runs else "nothing was run then"
    return Replay(path, file, len(then.mapping), 1 + len(then.files) + len(then.weights), compared or missing)


def _check_files(then: Certificate, path: str) -> None:
    """Refuse files of weights that have changed since the certificate.

    Raises:
        PortError: It names the first file that differs.
    """
    main = weight_path(as_path("frostline port", "FILE", path))
    _check_digest(main, digest_of_file(main), then.sha256)
    for name, digest in then.files.items():
        part = main.parent / name
        _check_digest(part, digest_of_file(part) if part.is_file() else "of no file", digest)


def _check_digest(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise PortError(
            what="The file of weights is not the one of the certificate.", where=str(path),
            received=f"digest {found[:12]}, and {wanted[:12]} in the certificate",
            do="pass the file that was ported; or port this one: frostline port FILE --to MODEL --out OUT.safetensors.",
        )  # fmt: skip


def _check_saved(then: Certificate, folder: Path, model: nn.Module) -> None:
    """Refuse saved weights that have changed since the certificate, or that do not fit this module.

    Raises:
        PortError: If a digest, a name or a shape differs.
    """
    for name, digest in then.weights.items():
        path = folder / name
        found = digest_of_file(path) if Path(name).name == name and path.is_file() else "of no file"
        if found != digest:
            raise PortError(
                what="The saved weights are not those of the certificate.", where=str(path),
                received=f"digest {found[:12]}, and {digest[:12]} in the certificate",
                do="put the saved weights into the folder of the certificate, or port the file again.",
            )  # fmt: skip
        with safe_open(path, "pt") as saved_file:
            saved = {name: tuple(saved_file.get_slice(name).get_shape()) for name in saved_file.keys()}  # noqa: SIM118
        own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        odd = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
        if odd:
            raise PortError(
                what="The module is not the one whose weights were saved.", where=f"{path}: {odd[0]!r}",
                received=f"the shape {own.get(odd[0])} in the module, {saved.get(odd[0])} in the file; {len(odd)} such",
                do="build the module as for the first port, or port the file again.",
            )  # fmt: skip


def _check_mapping(path: str, then: Certificate, now: Certificate) -> None:
    """Refuse a port with other results.

    Raises:
        PortError: If a tensor or another field differs; the error names them.
    """
    facts = {one.target: (one.sources, one.layout, one.unit, one.layer, one.sha256) for one in then.mapping}
    again = {one.target: (one.sources, one.layout, one.unit, one.layer, one.sha256) for one in now.mapping}
    changed = [name for name in sorted(facts.keys() | again.keys()) if facts.get(name) != again.get(name)]
    others = [name for name in _COMPARED if getattr(then, name) != getattr(now, name)]
    # Without a comparison of outputs more settings are unknown; without samples there are no statistics.
    if not {one for one in then.checks if one.setting != STATISTICS} <= set(now.checks):
        others.append("checks")
    if changed or others:
        raise PortError(
            what="The port has other results than its certificate.",
            where=f"{path}: {', '.join([*changed[:6], *others])}",
            received=f"{len(changed)} of {len(facts)} tensors, and {len(others)} of {len(_COMPARED) + 1} other entries",
            do="build the module as for the first port; after an update of this library see its changelog.",
        )  # fmt: skip


def read_certificate(path: str) -> Certificate:
    """Read a certificate.

    Raises:
        DataError: If the file is not a certificate.
    """
    place = as_path("frostline port", "--check", path)
    try:
        return Certificate.from_dict(read_json(place))
    except (CacheError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(
            what="This is not the certificate of a port.", where=path,
            received=error.received if isinstance(error, CacheError) else f"no entry {error}"
            if isinstance(error, KeyError) else str(error),
            do="pass NAME.certificate.json, which `frostline port FILE --to MODEL --out NAME.safetensors` writes.",
        ) from error  # fmt: skip
