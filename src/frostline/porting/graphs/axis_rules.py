"""Rules for the axes of values in operations without weights; `axes_of_run` applies them.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from frostline.porting.graphs.axes import (
    BROKEN,
    CHANNELS,
    JOINED,
    PLACE,
    UNKNOWN,
    Origin,
    is_odd,
    merged,
    of_role,
    reshaped,
    role_over,
    size_of,
    whole,
)
from frostline.porting.graphs.calls import PRIMES, names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.porting.graphs.axes import Axes, Axis
    from frostline.porting.graphs.axes_of_run import AxesOfRun
    from frostline.porting.graphs.calls import Call


_SHAPED = names("""reshape view flatten unflatten squeeze unsqueeze contiguous ravel view_as reshape_as _unsafe_view
    squeeze_ unsqueeze_""")
_TURNED = names("permute transpose swapaxes swapdims movedim moveaxis t T mT H transpose_")
_REDUCED = names("""mean sum amax amin max min std var logsumexp prod norm median nanmean argmax argmin all any
    var_mean std_mean""")
_RESIZED = ("max_pool", "avg_pool", "adaptive_", "lp_pool", "fractional_max_pool", "_adaptive_")
_SIZED = names("pad interpolate upsample narrow constant_pad_nd")
_PASSED = names("""relu relu_ relu6 gelu silu silu_ mish elu elu_ selu celu leaky_relu leaky_relu_ sigmoid sigmoid_
    tanh tanh_ hardtanh hardtanh_ hardswish hardsigmoid softplus softsign logsigmoid hardshrink softshrink tanhshrink
    threshold rrelu dropout dropout1d dropout2d dropout3d alpha_dropout
    feature_alpha_dropout feature_dropout local_response_norm clone detach to float double half bfloat16 type type_as
    cuda cpu requires_grad_ data real abs neg negative exp expm1 log log1p log2 sqrt rsqrt square pow reciprocal sign
    sin cos erf ceil floor round clamp clamp_ clamp_min clamp_max clip clip_ nan_to_num masked_fill masked_fill_ add
    add_ sub sub_ mul mul_ div div_ true_divide rsub
    __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__
    __imul__ __truediv__ __rtruediv__ __itruediv__ __div__ __rdiv__ __idiv__ __neg__ __pow__ __rpow__ __abs__ maximum
    minimum fmax fmin where lerp addcmul addcdiv multiply subtract divide atan2 heaviside logaddexp relu_squared
    logical_not isnan eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ float_power copysign
    alias_copy __setitem__""")
_ALONG = names("softmax log_softmax softmin normalize")
_JOINS = names("cat concat concatenate")
_CUTS = names("chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split glu")
_PRODUCTS = names("matmul __matmul__ __rmatmul__ bmm mm")


def passed(run: AxesOfRun, call: Call) -> list[Axes]:
    """Elementwise operations: the axes of all arguments, weights too, are aligned from the right."""
    shape = call.taken[0].shape if call.name == "__setitem__" else call.made[0].shape
    values = [one for one in call.known if len(one.shape) <= len(shape)]
    axes = run.together([run.of(one) for one in values], shape, call.number)
    for unit, weight in call.units:
        wide = [axis for axis in range(-weight.ndim, 0) if weight.shape[axis] > 1]
        run.take_features(unit, [axes[axis] for axis in wide])
    return [axes] * len(call.made)


def _along(run: AxesOfRun, call: Call) -> list[Axes]:
    """Operations that keep the shape and combine the elements along one axis, such as a softmax."""
    axes = run.of(call.known[0])
    axis = call.given("dim", 2, 1) if call.name == "normalize" else call.given("dim", 1, -1)
    return passed(run, call) if run.touch(axes, axis) else _broken(run, call, axes)


def _shaped(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """Reshapes: axes are cut and merged as factors, so that a flatten and its inverse show the map again."""
    (value, *_), (made, *_) = call.known, call.made
    axes = run.of(value)
    # Whoever flattens an input at once may be given maps, although the example that was made here has features only.
    is_first = run.is_guessed and value.is_floating_point() and run.is_input(axes)
    if is_first and value.ndim == made.ndim == 2 and call.name != "contiguous":
        return [(axes[0], whole(Origin(made.shape[1], BROKEN, (call.number, 1))))]
    shape = reshaped(axes, made.shape)
    return [shape] if shape is not None else _broken(run, call, axes)


def _turned(run: AxesOfRun, call: Call) -> list[Axes]:
    """Permutations: the call is repeated on a value whose sizes are distinct primes, which shows where axes go."""
    axes = run.of(call.known[0])
    shape = call.on_primes(len(axes)).shape
    return [tuple(axes[PRIMES.index(size)] for size in shape)]


def _reduced(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """Reductions, seen on primes as permutations are: an axis of size 1 or none is left of those that go."""
    if len(call.known) > 1:
        return passed(run, call) if call.name in ("max", "min") else None
    axes = run.of(call.known[0])
    found = call.on_primes(len(axes))
    shape = (found if isinstance(found, Tensor) else found[0]).shape
    made = tuple(axes[PRIMES.index(size)] if size > 1 else () for size in shape)
    if not run.touch(axes) or _is_mixed(axes[1:], [axis for axis in axes[1:] if axis and axis not in made]):
        return _broken(run, call, axes)
    return [made] * len(call.made)


def _is_mixed(axes: Axes, reduced: Sequence[Axis]) -> bool:
    """Whether channels are reduced together with some places, so that a place remains where channels are expected."""
    roles = {one.origin.role for axis in reduced for one in axis if one.is_whole}
    left = {one.origin.role for axis in axes if axis not in reduced for one in axis}
    return {CHANNELS, PLACE} <= roles and PLACE in left


def _resized(run: AxesOfRun, call: Call) -> list[Axes]:
    """Operations that change sizes; pools and interpolations show which axes are places and which one channels."""
    axes = run.of(call.known[0])
    spatial = next((int(letter) for letter in call.name if letter.isdigit()), 0)
    if call.name.startswith(("interpolate", "upsample")):
        spatial = len(axes) - 2
    # What lies on this axis in another order than it was cut has no order of its own: both are open.
    if spatial and is_odd(axes, len(axes) - spatial - 1, is_sure=True):
        return _broken(run, call, axes)
    if spatial:
        run.doubt_unknown(axes)
        run.show(axes[-spatial - 1], CHANNELS)
        for axis in axes[-spatial:]:
            run.show(axis, PLACE)
    if not run.touch(axes):
        return _broken(run, call, axes)
    return [in_size(axes, one.shape, call.number) for one in call.made]


def in_size(axes: Axes, shape: Sequence[int], number: int) -> Axes:
    """The same axes with other sizes."""
    made: list[Axis] = []
    for index, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if size_of(axis) == size and not any(one.origin.role == JOINED for one in axis):
            made.append(axis)
        elif len(axis) <= 1:
            role, place = (role_over((axis[0],)), axis[0].origin.place) if axis else (UNKNOWN, (number, index))
            made.append(whole(Origin(size, role, place, parents=(axis,) if axis else (), is_same=True)))
        else:
            made.append(whole(Origin(size, BROKEN, (number, index), parents=(axis,))))
    return tuple(made)


def _cut(run: AxesOfRun, call: Call) -> list[Axes]:
    """Operations that return a part of a value along one axis."""
    axis = call.given("dim", 1, -1) if call.name == "glu" else call.given("dim", 2, 0)
    axes = run.of(call.known[0])
    if not run.touch(axes, axis) or is_odd(axes, axis % len(axes), is_sure=False):
        return _broken(run, call, axes)
    return [_shortened(axes, axis, one.shape, call.number) for one in call.made]


def _shortened(axes: Axes, axis: int, shape: Sequence[int], number: int) -> Axes:
    made = list(axes)
    made[axis] = in_size((axes[axis],), (shape[axis],), number)[0]
    return tuple(made)


def _indexed(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """Indices of numbers and slices; tensors and lists as indices have no rule, so their results mean nothing."""
    axes = run.of(call.known[0])
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if any(not (one is None or one is ... or isinstance(one, (int, slice))) for one in index):
        return None
    count = sum(one is not None and one is not ... for one in index)
    at = next((place for place, one in enumerate(index) if one is ...), len(index))
    rest = (slice(None),) * (len(axes) - count)
    index = (*index[:at], *rest, *index[at + 1 :])
    cut = [at for at, one in enumerate(one for one in index if one is not None)
           if isinstance(one, slice) and one != slice(None)]  # fmt: skip
    picked = [at for at, one in enumerate(one for one in index if one is not None) if isinstance(one, int)]
    if not all([run.touch(axes, at) for at in cut] + [_is_followed(run, axes, at) for at in picked]):
        return _broken(run, call, axes)
    made: list[Axis] = []
    left = list(axes)
    for one in index:
        if one is None:
            made.append(())
            continue
        axis = left.pop(0)
        if isinstance(one, slice):
            size = call.made[0].shape[len(made)]
            is_all = one == slice(None)
            made.append(axis if is_all else _shortened((axis,), 0, (size,), call.number)[0])
    return [tuple(made)]


def _is_followed(run: AxesOfRun, axes: Axes, at: int) -> bool:
    """Whether an index along an axis can be followed; a value of divided features only may be a map."""
    is_of_one = len({one.origin for axis in axes[1:] for one in axis}) == 1
    return run.touch(axes, at) if len(axes) > 3 and is_of_one else True


def _unbound(run: AxesOfRun, call: Call) -> list[Axes]:
    """One place of an axis: the others keep their meaning."""
    axes = list(run.of(call.known[0]))
    at = call.given("dim", 1, 0) % len(axes)
    if not _is_followed(run, tuple(axes), at):
        return _broken(run, call, tuple(axes))
    del axes[at]
    return [tuple(axes)] * len(call.made)


def _expanded(run: AxesOfRun, call: Call) -> list[Axes]:
    """Axes that are repeated hold one number many times: they are no part of a map."""
    axes, shape = run.of(call.known[0]), call.made[0].shape
    axes = ((),) * (len(shape) - len(axes)) + axes
    return [tuple(
        axis if size_of(axis) == size else whole(Origin(size, UNKNOWN, (call.number, index)))
        for index, (axis, size) in enumerate(zip(axes, shape, strict=True))
    )]  # fmt: skip


def _joined(run: AxesOfRun, call: Call) -> list[Axes]:
    """Joins: all parts share the other axes, as in a sum; the joined axis remembers its parts in their order."""
    pieces = call.args[0] if call.args else call.kwargs["tensors"]
    axis = call.given("dim", 1, call.kwargs.get("axis", 0))
    shape = call.made[0].shape
    known = [one for one in pieces if run.has(one)]
    if not all(run.touch(run.of(one), axis) for one in known):
        return _broken(run, call, run.of(known[0]))
    rest = [shape[index] if index != axis % len(shape) else 1 for index in range(len(shape))]
    without = [tuple(() if index == axis % len(shape) else own for index, own in enumerate(run.of(one)))
               for one in known]  # fmt: skip
    axes = list(run.together(without, rest, call.number))
    parts = [run.of(one)[axis] for one in known]
    place = next((part[0].origin.place for part in parts if part), (call.number, axis % len(shape)))
    # Whole axes of one role (channels of two branches) give an axis of that role. A flattened map among them has to
    # be found again behind the join, which a part without known axes prevents.
    if all(len(part) <= 1 and not any(one.origin.role == JOINED for one in part) for part in parts):
        roles = {role_over(part) for part in parts if part}
        role = roles.pop() if len(roles) == 1 else BROKEN if BROKEN in roles else UNKNOWN
        origin = Origin(shape[axis], role, place, parents=tuple(part for part in parts if part), is_same=True)
    elif len(known) == len(pieces):
        origin = Origin(shape[axis], JOINED, place, parents=tuple(parts))
    else:
        origin = Origin(shape[axis], BROKEN, place, parents=tuple(parts))
    axes[axis] = whole(origin)
    return [tuple(axes)]


def _stacked(run: AxesOfRun, call: Call) -> list[Axes]:
    """A new axis that counts values: neither channels nor places."""
    pieces = call.args[0] if call.args else call.kwargs["tensors"]
    shape = call.made[0].shape
    axis = call.given("dim", 1, 0) % len(shape)
    rest = [size for index, size in enumerate(shape) if index != axis]
    known = [run.of(one) for one in pieces if run.has(one)]
    axes = list(run.together(known, rest, call.number))
    axes.insert(axis, whole(Origin(shape[axis], UNKNOWN, (call.number, axis))))
    return [tuple(axes)]


def _shuffled(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """(C * r * r, H, W) to (C, H * r, W * r), and back."""
    axes = run.of(call.known[0])
    factor = call.given("upscale_factor" if call.name == "pixel_shuffle" else "downscale_factor", 1, 1)
    (batch, channels, height, width), (_, _, rows, columns) = call.known[0].shape, call.made[0].shape
    if call.name == "pixel_shuffle":
        apart = reshaped(axes, (batch, channels // factor**2, factor, factor, height, width))
        if apart is None:
            return None
        channels_of = {one.origin for axis in apart[1:4] for one in axis}
        is_cut = any(not one.is_whole for axis in apart[4:] for one in axis)
        if len(channels_of) != 1 or PLACE in {one.role for one in channels_of} or is_cut:
            return _broken(run, call, axes)
        run.show(apart[1], CHANNELS)
        for axis in apart[2:]:
            run.show(axis, PLACE)
        fresh = (whole(Origin(rows, PLACE, (call.number, 2))), whole(Origin(columns, PLACE, (call.number, 3))))
        return [(*apart[:2], *fresh)]
    apart = reshaped(axes, (batch, channels, rows, factor, columns, factor))
    if apart is None:
        return None
    return [(apart[0], merged(apart[1] + apart[3] + apart[5]), apart[2], apart[4])]


def _product(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """Products of two computed values, as in an attention: rows of the first and columns of the second remain."""
    first, second = call.args[0], call.args[1]
    if call.name == "__rmatmul__":
        first, second = second, first
    if call.units:
        return None
    one, other = run.of(first), run.of(second)
    if len(one) < 2 or len(other) < 2:
        return None
    batch = run.together([one[:-2], other[:-2]], call.made[0].shape[:-2], call.number)
    return [(*batch, one[-2], other[-1])]


def _summed(run: AxesOfRun, call: Call) -> list[Axes] | None:
    """Sums of products (`einsum`), whose equation names the axes by letters."""
    inputs, arrow, output = str(call.args[0]).replace(" ", "").partition("->")
    letters = inputs.split(",")
    if not arrow or "." in inputs or len(call.known) != len(letters):
        return None
    values = [dict(zip(its, run.of(one), strict=True)) for its, one in zip(letters, call.known, strict=True)]
    if any(len(set(its)) < len(its) for its in letters):
        return None
    if len(values) == 1 and len(output) < len(letters[0]):
        return None
    rows = [tuple(value.get(letter, ()) for letter in output) for value in values]
    return [run.together(rows, call.made[0].shape, call.number)]


def _attention(run: AxesOfRun, call: Call) -> list[Axes]:
    query, value = run.of(call.args[0]), run.of(call.args[2])
    return [(*query[:-1], value[-1])]


def _broken(run: AxesOfRun, call: Call, axes: Axes) -> list[Axes]:
    """What cannot be followed is a doubt at the layers before it, and at the next layer behind it, not a guess."""
    run.doubt_makers(axes)
    run.mark_unfollowed(call.made)
    return [of_role(BROKEN, one.shape, call.number, axes) for one in call.made]


def rule_of(name: str) -> Callable[[AxesOfRun, Call], list[Axes] | None] | None:
    """The rule for an operation; None if there is none."""
    if name.startswith(_RESIZED):
        return _resized
    return next((rule for of, rule in _RULES if name in of), None)


_RULES: tuple[tuple[frozenset[str], Callable[[AxesOfRun, Call], list[Axes] | None]], ...] = (
    (_PASSED, passed), (_ALONG, _along), (_SHAPED, _shaped), (_TURNED, _turned), (_REDUCED, _reduced),
    (_SIZED, _resized), (_JOINS, _joined), (_CUTS, _cut), (_PRODUCTS, _product), (names("__getitem__"), _indexed),
    (names("expand expand_as broadcast_to"), _expanded), (names("unbind select"), _unbound),
    (names("stack"), _stacked), (names("pixel_shuffle pixel_unshuffle"), _shuffled),
    (names("scaled_dot_product_attention"), _attention), (names("einsum"), _summed),
)  # fmt: skip
