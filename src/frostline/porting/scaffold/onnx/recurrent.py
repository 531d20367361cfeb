"""LSTM, GRU and RNN nodes as layers of PyTorch.

Legend: B batch, T time, D directions, H hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.node import LayerTensor, Node, Result, Several
from frostline.porting.scaffold.onnx.values import Numbers, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.readers.contract import SourceTensor

_FUNCTIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def _functions(node: Node, directions: int) -> str:
    """The argument for the activation functions; empty for the default ones."""
    given = node.config.get("activations") or _FUNCTIONS[node.kind] * directions
    if given == ["Relu"] * directions and node.kind == "RNN":
        return ', nonlinearity="relu"'
    if given != _FUNCTIONS[node.kind] * directions:
        node.refuse(f"the functions {given}")
    return ""


def _recurrent(node: Node) -> Result:
    weights = {leaf: node.weight(slot) for slot, leaf in ((1, "W"), (2, "R"), (3, "B")) if node.has(slot)}
    found = {leaf: weight for leaf, weight in weights.items() if weight is not None}
    if len(found) < len(weights) or not {"W", "R"} <= set(found):
        node.refuse("weights that are computed")
    if node.has(4) or node.has(7) or "clip" in node.config or node.integer("input_forget", 0):
        node.refuse("lengths of sequences, peepholes, clip or input_forget")
    direction = node.choice("direction", "forward", "forward", "reverse", "bidirectional")
    directions = 2 if direction == "bidirectional" else 1
    if node.kind == "GRU" and not node.integer("linear_before_reset", 0):
        return _reset_before(node, found, direction)
    options = _functions(node, directions)
    options += ", bidirectional=True" if directions == 2 else ""
    options += "" if "B" in found else ", bias=False"
    is_batch_first = bool(node.integer("layout", 0))
    options += ", batch_first=True" if is_batch_first else ""
    hidden = found["R"].shape[-1]
    made = f"nn.{node.kind}({found['W'].shape[-1]}, {hidden}{options})"
    layer = node.module.weighted(made, {leaf: LayerTensor(weight, "") for leaf, weight in found.items()})
    if layer is None:
        node.refuse("weights that another node uses too")
    time = 1 if is_batch_first else 0
    x = node.x.text if direction != "reverse" else f"{node.x.atom}.flip({time})"
    return _outputs(node, layer, x, hidden, directions, is_batch_first, is_reverse=direction == "reverse")


def _reset_before(node: Node, weights: dict[str, SourceTensor], direction: str) -> Result:
    """A GRU whose reset gate acts before the product with the state, unlike `nn.GRU`."""
    if direction == "bidirectional" or _functions(node, 1) or _states(node, False) or node.integer("layout", 0):
        node.refuse("its reset gate acts before the product (linear_before_reset=0): both directions, a first state")
    hidden = weights["R"].shape[-1]
    more = ", state_bias=True" if "B" in weights else ""
    made = f"blocks.ResetBeforeGRU({weights['W'].shape[-1]}, {hidden}{more})"
    layer = node.module.weighted(made, {leaf: LayerTensor(weight, "") for leaf, weight in weights.items()})
    if layer is None:
        node.refuse("weights that another node uses too")
    flip = ".flip(1)" if direction == "reverse" else ""
    values = (Value(f"{{}}{flip}.transpose(0, 1).unsqueeze(1)", 4), Value("{}.unsqueeze(0)", 3))
    return Several(f"{layer}({node.x.atom}.transpose(0, 1){flip})", values)


def _outputs(
    node: Node, layer: str, x: str, hidden: int, directions: int, is_batch_first: bool, *, is_reverse: bool
) -> Result:
    """The call of the layer, with its results in the axes of ONNX: outputs (T, D, B, H) and states (D, B, H)."""
    text = "{}" if not is_reverse else f"{{}}.flip({1 if is_batch_first else 0})"
    text += ".unsqueeze(1)" if directions == 1 and not is_batch_first else f".unflatten(-1, ({directions}, {hidden}))"
    text += ".transpose(1, 2)" if directions == 2 and not is_batch_first else ""
    state = Value("{}.transpose(0, 1)" if is_batch_first else "{}", 3)
    has_state = any(node.outputs[1:])
    pattern = "{}, _" if not has_state else "{}, ({}, {})" if node.kind == "LSTM" else "{}, {}"
    values = (Value(text, 4), *(state,) * (pattern.count("{}") - 1))
    return Several(f"{layer}({x}{_states(node, is_batch_first)})", values, pattern)


def _states(node: Node, is_batch_first: bool) -> str:
    """The initial states as an argument; empty if they are zeros."""
    slots = [slot for slot in _STATES[node.kind] if node.has(slot) and not _is_zero(node.inputs[slot])]
    if not slots:
        return ""
    if len(slots) < len(_STATES[node.kind]):
        node.refuse("only one of its two states is given")
    texts = [node.tensor(slot).atom + (".transpose(0, 1)" if is_batch_first else "") for slot in slots]
    return f", ({', '.join(texts)})" if len(texts) > 1 else f", {texts[0]}"


def _is_zero(given: object) -> bool:
    """Whether an initial state is zero, as it is by default."""
    return isinstance(given, Numbers) and given.is_known and not any(given.items)


RECURRENT: dict[str, Callable[[Node], Result]] = {"LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent}
