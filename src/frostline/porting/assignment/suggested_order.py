"""The starting point of a search: the assignment that names and numbers suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.porting.assignment.names import similarities
from frostline.porting.graphs.target_graph import is_before
from frostline.porting.readers.source_names import by_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.graphs.target_graph import Edges

_WEIGHT_OF_ORDER = 0.1  # relative to the similarity of names, which is between 0 and 1


def suggest_order(sources: Sequence[str], targets: Sequence[str], flow: Edges | None) -> tuple[str, ...]:
    """The targets in the order of the sources that they are likely to belong to; surplus targets come last.

    Names count first, then the position: of a source by the numbers in its name, of a target by the flow of values, or
    by registration if the flow is unknown.
    """
    from scipy.optimize import linear_sum_assignment

    if not targets:  # in a partial port
        return ()
    by_name = sorted(sources, key=by_numbers)
    places_s = np.array([by_name.index(name) for name in sources]) / len(sources)
    depths = [sum(is_before(flow, other, name) for other in targets) if flow is not None else at
              for at, name in enumerate(targets)]  # fmt: skip
    places_t = np.argsort(np.argsort(depths, kind="stable"), kind="stable") / len(targets)
    score = np.array(similarities(sources, targets)) - _WEIGHT_OF_ORDER * (places_s[:, None] - places_t[None]) ** 2
    rows, columns = linear_sum_assignment(-score)
    chosen: list[str] = [targets[int(column)] for _, column in sorted(zip(rows, columns, strict=True))]
    return tuple(chosen + [name for name in targets if name not in chosen])
