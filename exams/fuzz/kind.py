"""What a kind of statement is: a template of source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of statement of a generated forward.

    Names in the template: `$t` the value it makes, `$a` and `$b` values of the same shape, `$f` a frozen value, `$y`
    the input tensor, `$L` a module or attribute of its own, `$l` its bare name, `$n` a number of its own, `$S` the
    shape of one sample, `$w` an index that widens one number per sample (`$w1` one row), `$G` whether this place
    trains.

    Attributes:
        tag: Its name in the counts.
        forward: Lines of `forward`.
        init: Lines of `__init__`.
        prelude: Lines of the file, before the model.
        places: `f` in the frozen part, `t` in the trainable part.
        layouts: `r` rows (B, 4), `t` tokens (B, 3, 4).
        weight: How often it is drawn, beside 1 for the others.
    """

    tag: str
    forward: str
    init: str = ""
    prelude: str = ""
    places: str = "ft"
    layouts: str = "rt"
    weight: float = 1.0
