"""The option `--weights`: load weights of any framework into the model of a command, and give it a head."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.arguments import as_path
from frostline.core.errors import DataError, FrostlineError, LayerNotFound, PortError
from frostline.core.new_files import check_new, write_json
from frostline.porting.readers.formats import open_source
from frostline.recipes.port import port
from frostline.recipes.port_replay import read_certificate
from frostline.recipes.reuse import OURS, reuse
from frostline.recipes.save import about
from frostline.transfer import replace_head

if TYPE_CHECKING:
    from torch import nn

    from frostline.porting.certificate import Certificate

# Arguments that an error of `port` recommends, and the options of `frostline port` for them.
_OPTIONS = (("partial=True", "--partial"), ("adapt=True", "--adapt"), ("golden=", "--verify golden.npz"))


def load_pretrained(
    model: nn.Module, file: str, classes: tuple[str, ...], *, spec: str, certificate: str | None = None,
    head: str | None = None,
) -> tuple[nn.Module, str]:  # fmt: skip
    """Load pretrained layers, and the head of the file if a run on the same classes saved it; else make a new head.

    Weights of PyTorch are copied by name and shape. Weights of another framework are ported before the head is
    replaced: every layer of the file has to be assigned to a layer of the model.

    Args:
        model: Changed in place.
        file: The path of the weights.
        classes: The classes of the data.
        spec: The argument `--model` of the command, for error texts.
        certificate: The path to which the certificate of a port is saved; None saves none.
        head: Qualified name of the output layer; None finds it.

    Returns:
        The head, and a sentence that states which weights were loaded.

    Raises:
        PortError: If the file cannot be read, or its layers are not those of the model.
        DataError: If the weights belong to a network that a treatment has changed, or `certificate` is passed and the
            weights are copied.
    """
    weights = as_path("frostline", "--weights", file)
    saved = as_path("frostline", "--certificate", certificate) if certificate is not None else None
    if saved is not None and not _is_certificate(saved):
        check_new(saved, "--certificate")
    with open_source(weights) as (source, _):
        is_ours = source.framework in OURS
    if is_ours:
        if certificate is not None:
            raise DataError(
                what="Only a port has a certificate: weights of PyTorch are copied by name.", where="--certificate",
                received=f"{file}, a file of PyTorch's weights", do="leave --certificate out.",
            )  # fmt: skip
        try:
            return _copied(model, weights, classes, head)
        except LayerNotFound as error:
            error.do += f" If only the names differ: {_command(weights, spec)}."
            raise
    made = _ported(model, weights, spec)
    line = (
        f"{len(made.mapping)} tensors of {len(made.units())} layers ported from {file} ({made.format}): each was "
        f"written once, and the inverse of its layout reproduces the file's bytes; {made.tested.removesuffix('.')}"
    )
    if saved is not None:
        write_json(saved, made.as_dict())
        line += f"; certificate: {certificate}"
    return replace_head(model, len(classes), name=head), line


def _is_certificate(path: Path) -> bool:
    try:
        read_certificate(str(path))
    except FrostlineError:
        return False
    return True


def _copied(
    model: nn.Module, weights: Path, classes: tuple[str, ...], head_name: str | None
) -> tuple[nn.Module, str]:  # fmt: skip
    made = about(weights)
    if made.get("treated"):
        raise DataError(
            what="These weights belong to a network whose layers a treatment has changed.", where=str(weights),
            received="; ".join(made["treated"]),
            do="build the treated network in Python and load them there, or train again without --heal.",
        )  # fmt: skip
    known = made.get("classes")
    summary = None
    if known is None or tuple(known) != classes:
        summary = reuse(weights, model)
    head = replace_head(model, len(classes), name=head_name)
    if summary is None:
        summary = reuse(weights, model)
    odd = (*summary.skipped, *summary.new)
    if odd:
        sys.stderr.write(f"Not used from {weights}: {', '.join(odd[:3])}\n")
    changed = set_settings(model, made.get("settings") or {}, weights)
    return head, f"{summary} from {weights}" + (f"; settings changed for these weights: {changed}" if changed else "")


def set_settings(model: nn.Module, settings: dict[str, Any], weights: Path) -> str:
    """Apply the settings with which weights were ported (epsilon of a norm), which the weights do not store.

    Args:
        model: Changed in place.
        settings: Values by layer and attribute, such as `norm.eps`.
        weights: For errors.

    Returns:
        The settings that had another value, as text.

    Raises:
        DataError: If the model has no such layer or attribute.
    """
    changed: list[str] = []
    for place, value in settings.items():
        layer, _, attribute = place.rpartition(".")
        module = dict(model.named_modules()).get(layer)
        if type(value) not in (int, float, str) or not isinstance(getattr(module, attribute, None), (int, float, str)):
            raise DataError(
                what="The weights were ported with a setting that the model does not have.",
                where=f"{weights.with_suffix('.json')}", received=f"{place} = {value!r}",
                do="build the model for which they were ported.",
            )  # fmt: skip
        if getattr(module, attribute) != value:
            changed.append(f"{place} = {value}, {getattr(module, attribute)} before")
            setattr(module, attribute, value)
    return ", ".join(changed)


def _ported(model: nn.Module, weights: Path, spec: str) -> Certificate:
    """Port; an error that an option of `frostline port` resolves names the command with that option."""
    try:
        made = port(weights, model)
    except PortError as error:
        options = [option for word, option in _OPTIONS if word in error.do]
        if options:
            error.do += f" On the command line: {_command(weights, spec, *options)}."
        raise
    return made


def _command(weights: Path, spec: str, *options: str) -> str:
    words = ["frostline port", str(weights), f"--to {spec}", *options, "--out model.safetensors"]
    return f"{' '.join(words)}; then --weights model.safetensors"
