"""Layers with weights: the layer of PyTorch in `__init__`, and the expression in `forward`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.porting.scaffold.keras.call import Call, first, last, over_channels
from frostline.porting.scaffold.keras.functions import activated, per_channel
from frostline.porting.scaffold.python_text import decimal, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Layers = tuple[dict[str, str], str]  # the attributes in `__init__`, and the expression in `forward`


def _bias(call: Call) -> str:
    return "" if call.flag("use_bias", True) else ", bias=False"


def _dense(call: Call) -> Layers:
    made = {call.name: f"nn.Linear({call.width}, {call.shape[-1]}{_bias(call)})"}
    applied = first(f"self.{call.name}({last(call.x, call.rank)})", len(call.shape))
    return made, activated(call, applied, len(call.shape))


def _each(call: Call) -> Layers:
    """`TimeDistributed`: `nn.Linear` takes any number of axes before the last, so that a `Dense` needs no loop."""
    inner: Any = call.config.get("layer")
    if not isinstance(inner, dict) or inner.get("class_name") != "Dense" or not isinstance(inner.get("config"), dict):
        call.refuse("of another layer than Dense")
    return _dense(replace(call, config=inner["config"]))


def _padding(
    call: Call, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[str, str]:
    """The padding argument of a convolution, and the expression of its input."""
    kind, x = call.config.get("padding", "valid"), call.x
    x = f"{x}.transpose(1, 2)" if call.rank == 3 else x
    if kind == "causal":  # all of it before the first step; the argument of a layer of PyTorch pads both sides
        return "", f"F.pad({x}, ({dilation[0] * (kernel[0] - 1)}, 0))"
    if kind == "valid" or set(kernel) == {1} == set(stride):
        return "", x
    # `same` of TensorFlow puts an odd rest behind the data, and with strides depends on the size of the input: only
    # an even reach at stride 1 is the padding of a layer of PyTorch.
    reach = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    if set(stride) == {1} and not any(size % 2 for size in reach):
        return f", padding={short(tuple(size // 2 for size in reach))}", x
    return "", f"blocks.pad_same({x}, {kernel}, {stride}, {dilation})"


def _back(call: Call, expression: str) -> str:
    """Sequences keep features last between layers; images and volumes have channels on axis 1 in the whole module."""
    return f"{expression}.transpose(1, 2)" if call.rank == 3 else expression


def _convolution(call: Call, outs: int, groups: int, name: str, bias: str) -> tuple[dict[str, str], str]:
    kernel, stride = call.sizes("kernel_size", 1), call.sizes("strides", 1)
    dilation = call.sizes("dilation_rate", 1)
    padding, x = _padding(call, kernel, stride, dilation)
    options = "".join(f", {key}={value}" for key, value, plain in (
        ("stride", short(stride), "1"), ("dilation", short(dilation), "1"), ("groups", str(groups), "1"))
        if value != plain)  # fmt: skip
    made = f"nn.Conv{call.rank - 2}d({call.width}, {outs}, {short(kernel)}{options}{padding}{bias})"
    return {name: made}, f"self.{name}({x})"


def _conv(call: Call) -> Layers:
    made, applied = _convolution(call, call.shape[-1], int(call.number("groups", 1)), call.name, _bias(call))
    return made, activated(call, _back(call, applied), len(call.shape))


def _depthwise(call: Call) -> Layers:
    """One group for each channel; a depth multiplier is in the number of outputs."""
    made, applied = _convolution(call, call.shape[-1], call.width, call.name, _bias(call))
    return made, activated(call, _back(call, applied), len(call.shape))


def _separable(call: Call) -> Layers:
    """Two layers, of which Keras stores one bias and one activation, behind the second."""
    wide = call.width * int(call.number("depth_multiplier", 1))
    made, applied = _convolution(call, wide, call.width, f"{call.name}_depthwise", ", bias=False")
    made[f"{call.name}_pointwise"] = f"nn.Conv{call.rank - 2}d({wide}, {call.shape[-1]}, 1{_bias(call)})"
    applied = _back(call, f"self.{call.name}_pointwise({applied})")
    return made, activated(call, applied, len(call.shape))


def _transposed(call: Call) -> Layers:
    """Keras cuts the output to stride times input, PyTorch by equal amounts on both sides: odd cuts are a block."""
    kernel, stride = call.sizes("kernel_size", 1), call.sizes("strides", 1)
    if call.config.get("output_padding") is not None or set(call.sizes("dilation_rate", 1)) != {1}:
        call.refuse("output_padding or dilation")
    pairs = list(zip(kernel, stride, strict=True))
    made: dict[str, str] = {}
    options, crop = "", ""
    if call.config.get("padding", "valid") == "same" and any(k > s for k, s in pairs):
        if any((k - s) % 2 for k, s in pairs):
            crop = f"self.{call.name}_crop"
            made[f"{call.name}_crop"] = f"blocks.CropTransposed({short(kernel)}, {short(stride)})"
        else:
            options = f", padding={short(tuple(max(k - s, 0) // 2 for k, s in pairs))}"
    more = tuple(max(s - k, 0) for k, s in pairs)  # steps behind the last one that a kernel reaches
    options += f", output_padding={short(more)}" if any(more) else ""
    made[call.name] = (
        f"nn.ConvTranspose{call.rank - 2}d({call.width}, {call.shape[-1]}, {short(kernel)}, {short(stride)}"
        f"{options}{_bias(call)})"
    )
    x = f"{call.x}.transpose(1, 2)" if call.rank == 3 else call.x
    applied = f"{crop}(self.{call.name}({x}))" if crop else f"self.{call.name}({x})"
    return made, activated(call, _back(call, applied), len(call.shape))


def _is_last(call: Call) -> bool:
    axis = call.config.get("axis", -1)
    return (axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis) in (-1, call.rank - 1)


def _batch_norm(call: Call) -> Layers:
    """Keras has the share of the old average as its momentum, PyTorch that of the new value; epsilons differ too."""
    if not _is_last(call):
        call.refuse("another axis than the last")
    affine = "" if call.flag("scale", True) or call.flag("center", True) else ", affine=False"
    made = (
        f"nn.BatchNorm{max(call.rank - 2, 1)}d({call.width}, eps={decimal(call.number('epsilon', 1e-3))}, "
        f"momentum={decimal(1 - call.number('momentum', 0.99))}{affine})"
    )
    return {call.name: made}, over_channels(call, f"self.{call.name}")


def _root_norm(call: Call) -> Layers:
    if not _is_last(call):
        call.refuse("another axis than the last")
    made = f"nn.RMSNorm({call.width}, eps={decimal(call.number('epsilon', 1e-6))})"
    return {call.name: made}, first(f"self.{call.name}({last(call.x, call.rank)})", call.rank)


def _standardised(call: Call) -> Layers:
    """Standardised inputs; mean and variance are weights or settings."""
    if not _is_last(call) or call.flag("invert", False):
        call.refuse("another axis than the last, or backwards")
    mean, variance = (call.config.get(f"input_{name}", call.config.get(name)) for name in ("mean", "variance"))
    if mean is None and variance is None:
        made = f"nn.BatchNorm{max(call.rank - 2, 1)}d({call.width}, eps=0, affine=False)"
        return {call.name: made}, over_channels(call, f"self.{call.name}")
    return {}, f"({call.x} - {per_channel(call, _flat(mean))}) / {per_channel(call, _flat(variance))} ** 0.5"


def _flat(values: Any) -> Any:
    """The innermost list, or the number, of nested lists with one element."""
    while isinstance(values, list) and len(values) == 1:
        values = values[0]
    return values


def _einsum(call: Call) -> Layers:
    """An `EinsumDense` whose equation is a product of the last axis with a matrix."""
    found = re.fullmatch(r"([a-zA-Z.]+)([a-zA-Z]),\2([a-zA-Z])->\1\3", str(call.config.get("equation")))
    bias = call.config.get("bias_axes")
    if found is None or bias not in (None, found[3]):
        call.refuse("an equation that is not a product of the last axis with a matrix")
    return _dense(replace(call, config={**call.config, "use_bias": bias is not None}))


def _layer_norm(call: Call) -> Layers:
    """A norm of PyTorch has a scale, or a scale and a shift; a shift alone becomes both, with a scale of ones."""
    if not _is_last(call) or call.flag("rms_scaling", False):
        call.refuse("another axis than the last")
    affine = ", elementwise_affine=False" if not call.flag("scale", True) and not call.flag("center", True) else ""
    affine = ", bias=False" if call.flag("scale", True) and not call.flag("center", True) else affine
    made = f"nn.LayerNorm({call.width}, eps={decimal(call.number('epsilon', 1e-3))}{affine})"
    return {call.name: made}, first(f"self.{call.name}({last(call.x, call.rank)})", call.rank)


def _group_norm(call: Call) -> Layers:
    """-1 groups stand for one group for each channel, as in an instance norm."""
    groups = int(call.number("groups", 32))
    if not _is_last(call):
        call.refuse("another axis than the last")
    affine = "" if call.flag("scale", True) or call.flag("center", True) else ", affine=False"
    groups = call.width if groups == -1 else groups
    made = f"nn.GroupNorm({groups}, {call.width}, eps={decimal(call.number('epsilon', 1e-3))}{affine})"
    return {call.name: made}, over_channels(call, f"self.{call.name}")


def _embedding(call: Call) -> Layers:
    return {
        call.name: f"nn.Embedding({int(call.number('input_dim', 0))}, {call.shape[-1]})"
    }, f"self.{call.name}({call.x})"


def _prelu(call: Call) -> Layers:
    """`nn.PReLU` has one slope for each channel; Keras has one for each place unless these axes are shared."""
    if list(call.config.get("shared_axes") or ()) != list(range(1, call.rank - 1)):
        call.refuse("one slope for each place")
    return {call.name: f"nn.PReLU({call.width})"}, over_channels(call, f"self.{call.name}")


def _recurrent(call: Call, kind: str, config: Any, options: str = "") -> str:
    """The recurrent layer of PyTorch; layers with other activation functions are refused."""
    functions = config.get("activation", "tanh"), config.get("recurrent_activation", "sigmoid")
    if functions != ("tanh", "sigmoid"):
        call.refuse(f"the functions {functions[0]!r} and {functions[1]!r}")
    units, bias = config.get("units"), "" if config.get("use_bias", True) else ", bias=False"
    if not isinstance(units, int):
        call.refuse("no number of units")
    return f"nn.{kind.replace('SimpleRNN', 'RNN')}({call.width}, {units}, batch_first=True{options}{bias})"


def _plain_recurrent(call: Call) -> Layers:
    """A recurrent layer in one direction; `[:, -1]` is the output of the last step, which Keras returns by default."""
    config = call.config
    x = f"{call.x}.flip(1)" if call.flag("go_backwards", False) else call.x
    end = "" if call.flag("return_sequences", False) else "[:, -1]"
    applied = f"self.{call.name}({x})[0]{end}"
    if call.mask:
        mask = f", {call.mask}.flip(1)" if call.flag("go_backwards", False) else f", {call.mask}"
        zeros = ", has_zeros=True" if call.flag("zero_output_for_mask", False) else ""
        applied = f"blocks.over_steps(self.{call.name}, {x}{mask}{zeros}){end}"
    if call.kind == "GRU" and not config.get("reset_after"):
        # `nn.GRU` resets after the product with the state, this one before it, with the hard sigmoid in old files.
        functions = config.get("activation", "tanh"), config.get("recurrent_activation", "sigmoid")
        is_old = functions == ("tanh", "hard_sigmoid") and 0 < call.version < 3
        if (functions != ("tanh", "sigmoid") and not is_old) or not call.flag("use_bias", True):
            call.refuse("its functions, or no bias")
        more = ", hard_sigmoid=True" if is_old else ""
        return {call.name: f"blocks.ResetBeforeGRU({call.width}, {call.shape[-1]}{more})"}, applied
    return {call.name: _recurrent(call, call.kind, config)}, applied


def _bidirectional(call: Call) -> Layers:
    """Directions that differ in nothing else are one layer of PyTorch, which concatenates; other merges follow it."""
    inner: Any = call.config.get("layer")
    if not isinstance(inner, dict) or inner.get("class_name") not in ("LSTM", "GRU", "SimpleRNN"):
        call.refuse("of another layer")
    kind, config = str(inner["class_name"]), inner.get("config") or {}
    merge = call.config.get("merge_mode", "concat")
    is_plain = merge in _MERGED and not call.config.get("backward_layer", None)
    is_plain = is_plain or _is_mirrored(call, config)
    if not is_plain or (kind == "GRU" and not config.get("reset_after")) or config.get("go_backwards"):
        call.refuse("merged in another way, or of layers that differ")
    made = {call.name: _recurrent(call, kind, config, ", bidirectional=True")}
    if call.mask:
        return made, _both_masked(call, merge, is_sequence=bool(config.get("return_sequences")))
    if config.get("return_sequences"):
        both = f"self.{call.name}({call.x})[0]"
        return made, both if merge == "concat" else f"{both}.unflatten(-1, (2, -1)).{_MERGED[merge]}(-2)"
    # The last step of the backward direction is the first of the sequence: it is in the state, not at the end.
    state = "[1][0]" if kind == "LSTM" else "[1]"
    ends = ".transpose(0, 1).flatten(1)" if merge == "concat" else f".{_MERGED[merge]}(0)"
    return made, f"self.{call.name}({call.x}){state}{ends}"


def _both_masked(call: Call, merge: str, *, is_sequence: bool) -> str:
    function, options = ("over_steps", ", has_zeros=True") if is_sequence else ("last_of_steps", "")
    both = f"blocks.{function}(self.{call.name}, {call.x}, {call.mask}{options})"
    return both if merge == "concat" else f"{both}.unflatten(-1, (2, -1)).{_MERGED[merge]}(-2)"


_MERGED = {"concat": "", "sum": "sum", "mul": "prod", "ave": "mean"}


def _is_mirrored(call: Call, config: Any) -> bool:
    """Whether the file states a backward layer with the same settings as the forward layer."""
    other: Any = call.config.get("backward_layer")
    if call.config.get("merge_mode", "concat") not in _MERGED or not isinstance(other, dict):
        return False
    settings = other.get("config") or {}
    names = ("units", "activation", "recurrent_activation", "use_bias", "return_sequences", "reset_after")
    return all(settings.get(name) == config.get(name) for name in names) and bool(settings.get("go_backwards"))


def is_packed(config: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    """Whether an attention can be an `nn.MultiheadAttention`: the widths of its heads add up to that of its input."""
    heads, key, call = config.get("num_heads"), config.get("key_dim"), config.get("call")
    is_causal = isinstance(call, dict) and (call.get("kwargs") or {}).get("use_causal_mask")
    if not isinstance(heads, int) or not isinstance(key, int) or config.get("value_dim") not in (None, key):
        return False
    return {heads * key, shape[-1]} == {one[-1] for one in shapes} and not is_causal


def _attention(call: Call) -> Layers:
    """Keras takes query, value, key in this order, by name or place, and its heads may have any width."""
    heads, key = int(call.number("num_heads", 1)), int(call.number("key_dim", 1))
    names = call.config.get("names") or ("",) * len(call.inputs)
    places = dict(zip(("query", "value", "key"), (at for at, name in enumerate(names) if not name), strict=False))
    places |= {name: at for at, name in enumerate(names) if name}
    query, value, seen = places["query"], places["value"], places.get("key", places["value"])
    texts = [call.inputs[at] for at in (query, seen, value)]
    masks = [call.masks[at] for at in {value, seen} if call.has_masks and call.masks[at]]
    joined = " & ".join(sorted(set(masks)))
    padding = f"~({joined})" if len(set(masks)) > 1 else f"~{joined}" if masks else ""
    if call.packs_attention:
        made = f"nn.MultiheadAttention({call.width}, {heads}, batch_first=True{_bias(call)})"
        return {
            call.name: made
        }, f"self.{call.name}({', '.join(texts)}, {padding and f'key_padding_mask={padding}, '}need_weights=False)[0]"
    widths = [call.shapes[at][-1] for at in (query, seen, value)]
    sizes = widths[0] if set(widths) == {call.shape[-1]} else (*widths, call.shape[-1])
    value_dim = call.config.get("value_dim")
    more = f", value_size={int(call.number('value_dim', key))}" if value_dim not in (None, key) else ""
    made = f"blocks.WideAttention({sizes}, {heads}, {key}{more}{_bias(call)})"
    arguments: Any = call.config.get("call")
    is_causal = isinstance(arguments, dict) and (arguments.get("kwargs") or {}).get("use_causal_mask")
    options = f"{', is_causal=True' if is_causal else ''}{padding and f', ignored={padding}'}"
    return {call.name: made}, f"self.{call.name}({', '.join(texts)}{options})"


WEIGHTED: dict[str, Callable[[Call], Layers]] = {
    "Dense": _dense, "EinsumDense": _einsum, "RMSNormalization": _root_norm, "Normalization": _standardised,
    "TimeDistributed": _each, "Embedding": _embedding, "PReLU": _prelu,
    **{f"Conv{axes}D": _conv for axes in (1, 2, 3)}, **{f"Convolution{axes}D": _conv for axes in (1, 2, 3)},
    **{f"DepthwiseConv{axes}D": _depthwise for axes in (1, 2)},
    **{f"SeparableConv{axes}D": _separable for axes in (1, 2)},
    **{f"Conv{axes}DTranspose": _transposed for axes in (1, 2, 3)},
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "GroupNormalization": _group_norm,
    "LSTM": _plain_recurrent, "GRU": _plain_recurrent, "SimpleRNN": _plain_recurrent, "Bidirectional": _bidirectional,
    "MultiHeadAttention": _attention,
}  # fmt: skip
