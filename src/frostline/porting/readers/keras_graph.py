"""The architecture in a Keras file, as plain data: nested models are flattened, nothing is built or imported."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.contract import SourceLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.porting.readers.weight_file import WeightFile

_MAX_COST = 300_000  # a network of 1,000 layers takes 3,000
_USUAL_NAME = 100
_MODELS = ("Functional", "Model", "Sequential")
_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")
_MAX_NOTES = 20

Call = tuple[str, int]  # a layer, and the index of its call
Output = tuple[str, int, int]  # a layer, the index of its call, and the index of the output


def is_model(layer: object) -> bool:
    """Whether a serialized layer is a model with a list of layers."""
    if not isinstance(layer, dict) or not layers_in(layer):
        return False
    return layer.get("class_name") in _MODELS or "input_layers" in settings_of(layer)  # or a subclass of these


def layers_in(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The serialized layers of a serialized model."""
    config = model.get("config")
    listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    return [layer for layer in listed if isinstance(layer, dict)] if isinstance(listed, list) else []


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a serialized layer."""
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(layer.get("name") or inner or layer.get("class_name") or "layer")


def settings_of(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a serialized layer."""
    config = layer.get("config")
    return MappingProxyType(config if isinstance(config, dict) else {})


def graph(file: WeightFile, model: Mapping[str, Any]) -> tuple[SourceLayer, ...]:
    """The layers of a model in topological order.

    Args:
        file: The file, for the error.
        model: A serialized model. Layers of nested models are named `model/layer`. The second call of a layer is listed
            as `layer:1`, with the name of its tensors in `unit`.

    Raises:
        PortError: If the graph has a cycle, refers to a layer that does not exist, or is too large.
    """
    builder = _Builder(file)
    builder.model(model, "", "", None)
    return tuple(builder.layers)


def ends(file: WeightFile, model: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers of `graph` that take the inputs of a model, and those that compute its outputs, in order."""
    builder = _Builder(file)
    outputs = builder.model(model, "", "", None)
    first = [layer.name for layer in builder.layers if layer.kind == "InputLayer"]
    named = {name_of(layer): None for layer in layers_in(model)}
    stated = [place for place, _, _ in _references(settings_of(model).get("input_layers"), named)]
    return tuple(stated if sorted(stated) == sorted(first) else first), tuple(outputs)


def code_in(model: object) -> tuple[str, ...]:
    """A note for each part of a serialized model that could be restored only by executing code."""
    found = dict.fromkeys(_code(model))
    shown = list(found)[:_MAX_NOTES]
    return tuple(shown + ([f"There are {len(found) - len(shown)} more of these."] if len(found) > len(shown) else []))


def _code(part: object) -> Iterator[str]:
    if isinstance(part, list):
        for item in part:
            yield from _code(item)
    if not isinstance(part, dict):
        return
    kind, module, config = part.get("class_name"), part.get("module"), part.get("config")
    if isinstance(kind, str) and isinstance(config, (dict, str)):
        name = name_of(part)
        if kind in _CODE:
            yield f"The file contains code in {name!r} ({kind}); it was not executed."
        elif isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins", "tf_keras", "tensorflow"):
            yield f"The layer or object {name!r} has a custom class ({module}.{kind}), which was not imported."
    for item in part.values():
        yield from _code(item)


@dataclass(frozen=True)
class _Step:
    """One call of a layer: the origin of each input, and the other arguments."""

    layer: Mapping[str, Any]
    name: str
    index: int
    sources: tuple[Output, ...]
    arguments: object
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """The calls of a functional model in topological order, and its inputs and outputs."""

    steps: tuple[_Step, ...]
    inputs: tuple[Output, ...]
    outputs: tuple[Output, ...]


class _Builder:
    """Collects calls of layers in topological order."""

    def __init__(self, file: WeightFile) -> None:
        self._file = file
        self.layers: list[SourceLayer] = []
        self._cost = 0
        self._plans: dict[int, _Plan] = {}  # by the identity of the model, which may be called several times

    def model(self, model: Mapping[str, Any], unit: str, name: str, inputs: Sequence[str] | None) -> list[str]:
        """List the layers of a model that is called on the outputs of `inputs`; returns the names of its outputs."""
        if "input_layers" in settings_of(model) or model.get("class_name") != "Sequential":
            return self._functional(model, unit, name, inputs)
        return self._sequential(model, unit, name, inputs)

    def _sequential(self, model: Mapping[str, Any], unit: str, name: str, inputs: Sequence[str] | None) -> list[str]:
        outputs = list(inputs or ())
        for layer in layers_in(model):
            if layer.get("class_name") == "InputLayer" and inputs is not None:
                continue
            own = name_of(layer)
            if not outputs and not is_model(layer):
                outputs = self._stated_input(model, layer, name + own)
            outputs = self.call(layer, unit + own, name + own, outputs, None)
        return outputs

    def _stated_input(self, model: Mapping[str, Any], layer: Mapping[str, Any], name: str) -> list[str]:
        """List an input layer for a sequential model without one; the first layer states the input shape."""
        if layer.get("class_name") == "InputLayer":
            return []
        shape = settings_of(layer).get("batch_input_shape")
        form = {"batch_input_shape": shape} if shape else {"batch_shape": settings_of(model).get("build_input_shape")}
        if not all(isinstance(value, list) for value in form.values()):
            return []
        self.layers.append(SourceLayer(f"{name}_input", "InputLayer", MappingProxyType(form)))
        return [f"{name}_input"]

    def _functional(self, model: Mapping[str, Any], unit: str, name: str, inputs: Sequence[str] | None) -> list[str]:
        if id(model) not in self._plans:
            self._plans[id(model)] = self._plan(model)
        plan = self._plans[id(model)]
        outer = dict(zip([place for place, _, _ in plan.inputs], inputs or (), strict=False))
        outputs: dict[Call, list[str]] = {}
        for step in plan.steps:
            taken = [part for place, index, slot in step.sources for part in _slot(outputs[(place, index)], slot)]
            if step.name in outer and not step.sources:
                self._spend(1)
                found = [outer[step.name]]
            else:
                called = f"{step.name}:{step.index}" if step.index else step.name
                found = self.call(step.layer, unit + step.name, name + called, taken, step.arguments, step.names)
            outputs[(step.name, step.index)] = found
        return [part for place, index, slot in plan.outputs for part in _slot(outputs.get((place, index), []), slot)]

    def call(
        self, layer: Mapping[str, Any], unit: str, name: str, inputs: Sequence[str], arguments: object,
        names: tuple[str, ...] = (),
    ) -> list[str]:  # fmt: skip
        """List one call of a layer, or the layers of a nested model; returns the names of its outputs."""
        self._spend(1 + len(name) // _USUAL_NAME + len(inputs))
        if is_model(layer):
            return self.model(layer, f"{unit}/", f"{name}/", inputs)
        config = settings_of(layer)
        if arguments is not None:
            config = MappingProxyType({**config, "call": arguments})
        if any(names):
            config = MappingProxyType({**config, "names": names})
        other = unit if unit != name else ""
        self.layers.append(SourceLayer(name, str(layer.get("class_name")), config, tuple(inputs), other))
        return [name]

    def _spend(self, cost: int) -> None:
        """Bound the number of calls: nested models that are called repeatedly grow exponentially."""
        self._cost += cost
        if self._cost > _MAX_COST:
            raise self._file.damaged(f"an architecture with more than {_MAX_COST} calls of layers")

    def _plan(self, model: Mapping[str, Any]) -> _Plan:
        config = settings_of(model)
        layers = {name_of(layer): layer for layer in layers_in(model)}
        first_calls = {name: _first_call(layer) for name, layer in layers.items()}

        def references(part: object) -> tuple[Output, ...]:
            found = _references(part, layers)
            return tuple((name, max(0, index - first_calls[name]), slot) for name, index, slot in found)

        steps = [
            _Step(layer, name, index, references(node), _arguments(node), tuple(_argument_names(node, "")))
            for name, layer in layers.items()
            for index, node in enumerate(_nodes(layer))
        ]
        ends = config.get("output_layers")
        return _Plan(tuple(self._ordered(steps)), references(config.get("input_layers")), references(ends))

    def _ordered(self, steps: list[_Step]) -> Iterator[_Step]:
        """The calls in topological order, otherwise in the order of the file."""
        known = {(step.name, step.index) for step in steps}
        waiting = defaultdict[Call, list[int]](list)
        missing: dict[int, int] = {}
        for number, step in enumerate(steps):
            needed = {(place, index) for place, index, _ in step.sources}
            if not needed <= known:
                raise self._file.damaged(f"the layer {step.name[:60]!r} takes outputs of a layer that does not exist")
            missing[number] = len(needed)
            for call in needed:
                waiting[call].append(number)
        ready = [number for number, count in missing.items() if count == 0]
        done = 0
        while ready:
            step = steps[heapq.heappop(ready)]
            done += 1
            yield step
            for number in waiting[(step.name, step.index)]:
                missing[number] -= 1
                if missing[number] == 0:
                    heapq.heappush(ready, number)
        if done < len(steps):
            raise self._file.damaged("an architecture with a cycle of layers")


def _slot(outputs: list[str], slot: int) -> list[str]:
    """The layer that computes one output; a layer with several outputs is listed once."""
    return [outputs[slot if 0 <= slot < len(outputs) else 0]] if outputs else []


def _first_call(layer: Mapping[str, Any]) -> int:
    """The index of a layer's first call; for a model with an input layer, Keras 2 counts its construction as call 0."""
    nodes, inner = _nodes(layer), layers_in(layer)
    is_keras_2 = bool(nodes) and isinstance(nodes[0], list)
    return int(is_keras_2 and bool(inner) and inner[0].get("class_name") == "InputLayer")


def _nodes(layer: Mapping[str, Any]) -> list[Any]:
    nodes = layer.get("inbound_nodes")
    return nodes if isinstance(nodes, list) and nodes else [[]]


def _references(part: object, layers: Mapping[str, object]) -> list[Output]:
    """Each reference to a layer's output, in order: of Keras 3 (`keras_history`) or Keras 2 (`[name, node, slot]`)."""
    if isinstance(part, dict):
        config = part.get("config")
        if part.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
            return _references(config.get("keras_history"), layers)
        return [found for item in part.values() for found in _references(item, layers)]
    if not isinstance(part, list):
        return []
    if len(part) >= 3 and isinstance(part[0], str) and part[0] in layers and _are_numbers(part[1:3]):
        return [(part[0], part[1], part[2]), *_references(part[3:], layers)]
    return [found for item in part for found in _references(item, layers)]


def _argument_names(part: object, name: str) -> Iterator[str]:
    """For each reference to a layer's output, the name of its argument; empty for a positional one."""
    if isinstance(part, dict):
        if part.get("class_name") == "__keras_tensor__":
            yield name
            return
        for key, item in part.items():
            yield from _argument_names(item, "" if not name and key in ("args", "kwargs") else str(key))
    elif isinstance(part, list):
        if len(part) >= 3 and isinstance(part[0], str) and _are_numbers(part[1:3]):
            yield name
            part = part[3:]
        for item in part:
            yield from _argument_names(item, name)


def _are_numbers(parts: list[Any]) -> bool:
    return all(isinstance(part, int) for part in parts)


def _arguments(node: object) -> object:
    """The arguments of a call except outputs of other layers; None if there are none."""
    kept = _without_tensors(node)
    return kept if _has_content(kept) else None


def _without_tensors(part: object) -> object:
    if isinstance(part, dict):
        if part.get("class_name") == "__keras_tensor__":
            return None
        return {key: _without_tensors(item) for key, item in part.items()}
    if isinstance(part, list):
        if len(part) >= 3 and isinstance(part[0], str) and _are_numbers(part[1:3]):
            return _without_tensors(part[3:])
        return [_without_tensors(item) for item in part]
    return part


def _has_content(part: object) -> bool:
    if isinstance(part, (dict, list)):
        return any(_has_content(item) for item in (part.values() if isinstance(part, dict) else part))
    return part is not None
