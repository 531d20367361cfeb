"""Similarity of names of layers: words by meaning, numbers by rank; parts that all names share are ignored."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Tokens = tuple["str | int", ...]

_MOST_PLACES = 4
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Synonyms among frameworks. Words that only name the type of a layer are mapped to the empty text and ignored.
_MEANING = {
    "q": "query", "k": "key", "v": "value", "o": "output", "out": "output", "backward": "reverse", "bw": "reverse",
    "forward": "", "fw": "", "batchnorm": "norm", "bn": "norm", "batch": "", "normalization": "norm",
    "layernorm": "norm", "ln": "norm", "dense": "linear", "fc": "linear", "logits": "head", "predictions": "head",
    "classifier": "head", "skip": "downsample", "embeddings": "embedding", "embed": "embedding", "emb": "embedding",
    "shortcut": "downsample", "d": "", "proj": "", "projection": "", "layer": "", "layers": "", "block": "",
    "blocks": "", "kernel": "", "weight": "", "depthwise": "dw", "pointwise": "pw", "self": "", "lstm": "", "gru": "",
    "rnn": "", "l": "", "positional": "position", "pos": "position", "cls": "class", "token": "",
    "mu": "mean", "logvar": "var", "variance": "var", "log": "", "bbox": "box", "boxes": "box", "attn": "attention",
}  # fmt: skip


def parts(name: str) -> list[str]:
    """The words and numbers of a name in order, in lower case.

    Example:
        >>> parts("encoder.layers_10/selfAttention")
        ['encoder', 'layers', '10', 'self', 'attention']
    """
    return [part.lower() for part in _PART.findall(name)]


def words(name: str) -> tuple[str, ...]:
    """The words of a name, without its numbers."""
    return tuple(part for part in parts(name) if not part.isdigit())


def tokens(name: str) -> Tokens:
    """The words and numbers of a name, in order.

    Example:
        >>> tokens("conv2_block1_3_conv")
        ('conv', 2, 1, 3, 'conv')
    """
    found: list[str | int] = []
    for part in parts(name):
        if part.isdigit():
            found.append(int(part))
        else:
            word = _MEANING.get(part, part)
            if word:
                found.append(word)
    return tuple(found)


def similarities(sources: Sequence[str], targets: Sequence[str], *, has_numbers: bool = True) -> list[list[float]]:
    """The similarity of each name of the file and each name of the module.

    Words that all names of a side share are ignored. A number counts if it is an index: the words before it are equal
    in all names of its side (`block_1`, `block_2`), and both sides have the same indices after the smallest one is
    subtracted. After an index, further numbers count if both sides have the same ones.

    Args:
        sources: Names of the file.
        targets: Names of the module.
        has_numbers: Whether numbers count.

    Returns:
        Values from 0 (nothing in common) to 1 (equal), one row for each source.
    """
    ours, theirs = (_places(sources), _places(targets)) if has_numbers else ([], [])
    kept: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for (one, is_index), (other, is_other_index) in zip(ours, theirs, strict=False):
        if is_index and is_other_index and _from_first(one) == _from_first(other):
            kept.append((_from(one, min(one)), _from(other, min(other))))
        elif kept and len(ours) == len(theirs) and set(one) == set(other):
            kept.append((one, other))
        else:
            break
    left = [_Feature(words, tuple(one[at] for one, _ in kept)) for at, words in enumerate(_words(sources))]
    right = [_Feature(words, tuple(other[at] for _, other in kept)) for at, words in enumerate(_words(targets))]
    return [[_similarity(one, other) for other in right] for one in left]


# Names such as `u0_c2` and `conv1.1` have two numbers, and frameworks nest them in different orders. Where the words
# before the numbers fit better in another order, the numbers prove nothing.
def is_crossed(sources: Sequence[str], targets: Sequence[str]) -> bool:
    """Whether words suggest another order of the numbers: `u0_c1` may be `conv1.0`, whose first number is that of c.

    Numbers are compared from the outermost to the innermost; if two of them take the same values, only words show which
    corresponds to which.

    Args:
        sources: Names of the file.
        targets: Names of the module.
    """
    ours, theirs = _counters(sources), _counters(targets)
    if not 1 < len(ours) == len(theirs) <= _MOST_PLACES:
        return False
    similarities = [
        sum(_is_short(word, theirs[at][0]) for (word, _), at in zip(ours, order, strict=True))
        for order in permutations(range(len(theirs)))
        if all(counted == theirs[at][1] for (_, counted), at in zip(ours, order, strict=True))
    ]
    in_order = sum(_is_short(word, other) for (word, _), (other, _) in zip(ours, theirs, strict=True))
    return max(similarities, default=0) > in_order


def _counters(names: Sequence[str]) -> list[tuple[str, set[int]]]:
    """The positions at which numbers differ: the word before the number, and the values of the number."""
    split = [parts(name) for name in names]
    numbers = [[(one[at - 1] if at else "", int(part)) for at, part in enumerate(one) if part.isdigit()]
               for one in split]  # fmt: skip
    places = [([word for word, _ in place], tuple(number for _, number in place))
              for place in zip(*numbers, strict=False)]  # fmt: skip
    return [(words[0], _from_first(values)) for words, values in places if len(set(values)) > 1]


def _is_short(word: str, other: str) -> bool:
    """Whether one word is equal to the other, or its beginning: `c` of `conv`; numbers do not count as words."""
    short, long = sorted((_MEANING.get(word, word), _MEANING.get(other, other)), key=len)
    return bool(short) and not short.isdigit() and long.startswith(short)


class _Feature(NamedTuple):
    words: Counter[str]
    numbers: tuple[int, ...]


def _words(names: Sequence[str]) -> list[Counter[str]]:
    """The words of each name, without those that all names have."""
    words = [Counter(token for token in tokens(name) if isinstance(token, str)) for name in names]
    shared = words[0].copy()
    for one in words:
        shared &= one
    return [one - shared for one in words]


def _places(names: Sequence[str]) -> list[tuple[tuple[int, ...], bool]]:
    """For each position with different numbers: the number of every name, and whether it is an index."""
    split = [parts(name) for name in names]
    numbers = [[(tuple(word for word in one[:at] if not word.isdigit()), int(part))
                for at, part in enumerate(one) if part.isdigit()] for one in split]  # fmt: skip
    found: list[tuple[tuple[int, ...], bool]] = []
    for place in zip(*numbers, strict=False):
        values = tuple(number for _, number in place)
        if len(set(values)) > 1:
            found.append((values, len({before for before, _ in place}) == 1))
    return found


def _from(place: tuple[int, ...], first: int) -> tuple[int, ...]:
    return tuple(number - first for number in place)


def _from_first(place: tuple[int, ...]) -> set[int]:
    return set(_from(place, min(place)))


def _similarity(one: _Feature, other: _Feature) -> float:
    both = sum((one.words & other.words).values())
    both += sum(a == b for a, b in zip(one.numbers, other.numbers, strict=True))
    total = sum((one.words | other.words).values()) + len(one.numbers)
    return both / total if total else 0.0
