"""The architecture that Keras stores in a SavedModel, read as data: the functions of the model are not read.

References:
    Keras 2, `saving/legacy/saved_model`: the metadata of each object as JSON, in `keras_metadata.pb` (SavedMetadata),
    in older versions in `saved_model.pb` (SavedUserObject); the first object is the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.core.errors import PortError
from frostline.porting.readers import strict_json
from frostline.porting.readers.keras_graph import code_in, ends, graph, is_model
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.porting.readers.contract import SourceLayer

_METADATA, _MODEL = "keras_metadata.pb", "saved_model.pb"


@dataclass(frozen=True)
class Architecture:
    """The architecture in a SavedModel; empty if it contains none.

    Attributes:
        layers: As in `Source`.
        inputs: As in `Source`.
        outputs: As in `Source`.
        notes: The origin of the architecture, or the reason why it was not read.
    """

    layers: tuple[SourceLayer, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def architecture(file: WeightFile) -> Architecture:
    """The architecture of the SavedModel of a checkpoint.

    Args:
        file: `variables/variables.index` in the folder of the model.
    """
    if (file.path.parent.name, file.path.name) != ("variables", "variables.index"):
        return Architecture()
    for name in (_METADATA, _MODEL):
        path = file.path.parent.parent / name
        if not path.is_file():
            continue
        try:
            model = _model(file, path)
            if model is not None:
                notes = (f"The architecture was read from {name}.", *code_in(model))
                return Architecture(graph(file, model), *ends(file, model), notes)
        except PortError as error:
            return Architecture(notes=(f"The architecture in {name} was not read: {error.received}.",))
    return Architecture()


def _model(file: WeightFile, path: Path) -> dict[str, Any] | None:
    """The serialized model in a file of the folder; None if there is none."""
    with WeightFile(path) as other:
        if other.real_path.parent != file.real_path.parent.parent or other.num_links > 1:
            raise other.damaged("the file is a link to another folder")
        file.record(f"../{path.name}", other.stamp)
        whole = Wire(other).message()
        if path.name == _METADATA:
            texts = [node.span(5) for node in whole.messages(1) if node.integer(2) == 0]
        else:
            meta = next(iter(whole.messages(2)), None)
            objects = meta.message(7) if meta is not None else None
            first = next(iter(objects.messages(1)), None) if objects is not None else None
            user = first.message(4) if first is not None else None
            texts = [user.span(3)] if user is not None else []
        stated = [_plain(strict_json.parse(other, text.bytes())) for text in texts if text is not None and text.size]
    models = [value for value in stated if is_model(value)]
    return models[0] if len(models) == 1 else None


def _plain(value: Any) -> Any:
    """Settings with plain lists instead of the wrappers that Keras writes for tuples."""
    if isinstance(value, dict):
        if value.get("class_name") == "__tuple__" and isinstance(value.get("items"), list):
            return [_plain(item) for item in value["items"]]
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
