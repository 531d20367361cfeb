"""How alike the names of layers are: words by meaning, numbers by rank, and only where they tell layers apart."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Tokens = tuple["str | int", ...]

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Words of one meaning among frameworks; words that only tell the type of a layer mean nothing here.
_MEANING = {
    "q": "query", "k": "key", "v": "value", "o": "output", "out": "output", "backward": "reverse", "bw": "reverse",
    "forward": "", "fw": "", "batchnorm": "norm", "bn": "norm", "batch": "", "normalization": "norm",
    "layernorm": "norm", "ln": "norm", "dense": "linear", "fc": "linear", "logits": "head", "predictions": "head",
    "classifier": "head", "embeddings": "embedding", "embed": "embedding", "emb": "embedding", "shortcut": "downsample",
    "d": "", "proj": "", "projection": "", "layer": "", "layers": "", "block": "", "blocks": "", "kernel": "",
    "weight": "", "depthwise": "dw", "pointwise": "pw", "expand": "expand", "project": "project", "self": "",
    "lstm": "", "gru": "", "rnn": "", "l": "", "conv": "conv", "positional": "position", "pos": "position", "cls": "class",
    "token": "", "intermediate": "intermediate",
}  # fmt: skip


def tokens(name: str) -> Tokens:
    """The words and numbers of a name, in order.

    Example:
        >>> tokens("conv2_block1_3_conv")
        ('conv', 2, 1, 3, 'conv')
    """
    found: list[str | int] = []
    for part in _PART.findall(name):
        if part.isdigit():
            found.append(int(part))
        else:
            word = _MEANING.get(part.lower(), part.lower())
            if word:
                found.append(word)
    return tuple(found)


def likeness(sources: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
    """How much each name of the file is like each name of the module, among these names alone.

    What all names of a side share is left out. Numbers that vary count by their place: the same number, or the same
    distance from the first (`block_1, block_2` and `blocks.0, blocks.1`). Other numbers say nothing.

    Args:
        sources: Names of the file.
        targets: Names of the module.

    Returns:
        From 0 (nothing in common) to 1 (the same), one row for each source.
    """
    left, right = [tokens(name) for name in sources], [tokens(name) for name in targets]
    ours, theirs = _varying(left), _varying(right)
    if len(ours) != len(theirs) or not all(map(_is_same_scale, ours, theirs)):
        ours, theirs = [], []
    one = [_Feature(words, tuple(place[at] for place in ours)) for at, words in enumerate(_words(left))]
    two = [_Feature(words, tuple(place[at] for place in theirs)) for at, words in enumerate(_words(right))]
    starts = [(min(place), min(other)) for place, other in zip(ours, theirs, strict=True)]
    starts = [(0, 0) if set(place) == set(other) else start
              for place, other, start in zip(ours, theirs, starts, strict=True)]  # fmt: skip
    return [[_alike(a, b, starts) for b in two] for a in one]


class _Feature(NamedTuple):
    words: Counter[str]
    numbers: tuple[int, ...]


def _words(split: list[Tokens]) -> list[Counter[str]]:
    """The words of each name that not all names have."""
    words = [Counter(token for token in one if isinstance(token, str)) for one in split]
    shared = words[0].copy()
    for one in words:
        shared &= one
    return [one - shared for one in words]


def _varying(split: list[Tokens]) -> list[tuple[int, ...]]:
    """For each place at which numbers differ, the number of every name; none if names have more or fewer numbers."""
    numbers = [tuple(token for token in one if isinstance(token, int)) for one in split]
    if len({len(one) for one in numbers}) != 1:
        return []
    return [place for place in zip(*numbers, strict=True) if len(set(place)) > 1]


def _is_same_scale(place: tuple[int, ...], other: tuple[int, ...]) -> bool:
    one, two = sorted(set(place)), sorted(set(other))
    return [number - one[0] for number in one] == [number - two[0] for number in two]


def _alike(one: _Feature, other: _Feature, starts: list[tuple[int, int]]) -> float:
    both = sum((one.words & other.words).values())
    total = sum((one.words | other.words).values()) + len(one.numbers)
    for number, another, (start, other_start) in zip(one.numbers, other.numbers, starts, strict=True):
        both += number - start == another - other_start
    return both / total if total else 0.0
