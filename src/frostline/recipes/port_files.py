"""The command `frostline port`: save ported weights and their certificate, list tensors, write a scaffold."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.arguments import as_path
from frostline.core.errors import DataError
from frostline.core.new_files import check_new, write_atomic, write_json
from frostline.porting.readers.formats import open_source
from frostline.porting.readers.weight_file import digest_of_file
from frostline.porting.scaffold.module_text import module_text
from frostline.recipes.port import port
from frostline.recipes.save import save_model

if TYPE_CHECKING:
    from torch import nn

    from frostline.porting.certificate import Certificate


@dataclass(frozen=True)
class PortReport:
    """The output of `frostline port FILE --to MODEL`."""

    certificate: Certificate
    weights: str
    certificate_path: str

    def text(self) -> str:
        """For people."""
        return f"{self.certificate.text()}\nSaved:   {self.weights}\n         {self.certificate_path}"


@dataclass(frozen=True)
class Listing:
    """The output of `frostline port FILE --list`."""

    format: str
    framework: str
    tensors: tuple[tuple[str, str, tuple[int, ...], str], ...]
    dropped: dict[str, str]
    notes: tuple[str, ...]


def port_to_file(
    source: str, model: nn.Module, *, to: str, out: str, golden: str | None, partial: bool, adapt: bool,
    hints: str | None, key: str | None,
) -> PortReport:  # fmt: skip
    """Port a file into a module; save the weights and the certificate."""
    path = as_path("frostline port", "--out", out)
    if path.suffix != ".safetensors":
        raise DataError(
            what="Ported weights are saved as safetensors.", where="--out", received=out,
            do=f"write --out {path.with_suffix('.safetensors')}.",
        )  # fmt: skip
    beside = path.with_suffix(".certificate.json")
    for own in (path, path.with_suffix(".json"), beside):
        check_new(own, "--out")
    given = _hints(hints) if hints is not None else None
    model.eval()  # what is saved are weights: in which mode they will be used is not known here
    certificate = port(source, model, golden=golden, partial=partial, adapt=adapt, hints=given, key=key)
    about = {"model": to, "ported_from": str(source), "settings": certificate.settings()}
    saved = save_model(model, path.parent, about, name=path.stem)
    certificate = replace(certificate, to=to, weights={saved.name: digest_of_file(saved)})
    write_json(beside, certificate.as_dict())
    return PortReport(certificate, str(saved), str(beside))


def list_tensors(source: str, key: str | None = None) -> Listing:
    """The tensors of a file of weights; no array is read."""
    with open_source(as_path("frostline port", "FILE", source), key) as (content, _):
        tensors = tuple((one.name, one.dtype, one.shape, f"{one.unit}: {one.leaf}") for one in content.tensors)
        return Listing(content.format, content.framework, tensors, dict(content.dropped), content.notes)


@dataclass(frozen=True)
class Scaffold:
    """The output of `frostline port FILE --scaffold OUT`."""

    module: str
    layers: int

    def text(self) -> str:
        """For people."""
        stem = Path(self.module).stem
        return (
            f"Wrote {self.module}, a module of {self.layers} layers. To load the weights:\n"
            f"  frostline port FILE --to {stem}:{CLASS} --out {stem}.safetensors"
        )


CLASS = "Network"  # the name of the class that is written


def write_scaffold(source: str, out: str, key: str | None = None) -> Scaffold:
    """Write a module for the architecture in a file.

    Raises:
        DataError: If `out` exists already, or is not a valid name of a Python module.
        PortError: If a layer has no translation.
    """
    path = as_path("frostline port", "--scaffold", out)
    if path.suffix != ".py" or not path.stem.isidentifier() or path.exists():
        raise DataError(
            what="A scaffold is written into a new Python file.", where="--scaffold", received=out,
            do="pass the name of a file that does not exist yet, such as --scaffold network.py.",
        )  # fmt: skip
    with open_source(as_path("frostline port", "FILE", source), key) as (content, _):
        text = module_text(content, source, CLASS)
        write_atomic(path, [text.encode()])
        return Scaffold(str(path), len(content.layers))


def _hints(text: str) -> dict[str, str]:
    """The hints, from JSON text or from the path of a JSON file."""
    try:
        found: Any = json.loads(Path(text).read_text() if text.endswith(".json") else text)
    except (OSError, ValueError) as error:
        raise _no_hints(text) from error
    if not isinstance(found, dict):
        raise _no_hints(text)
    return {str(name): str(layer) for name, layer in found.items()}


def _no_hints(text: str) -> DataError:
    return DataError(
        what="Hints are a mapping from layers of the file to layers of the module.", where="--hints",
        received=text[:60],
        do="""write it as JSON: --hints '{"dense_1": "head"}', or pass the path of a .json file.""",
    )  # fmt: skip
