"""Which frozen values to store, and which to compute again from them in every step: a minimum cut.

Each value that the head needs is either loaded, or computed by its call, whose own values are needed then. The cheapest
choice is a minimum cut: an edge stands for each value that would be loaded, and for each call that would be made.

References:
    Picard, "Maximal closure of a graph and applications to combinatorial problems", Management Science 22, 1976.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.splitting.plan.frozen_calls import FrozenCalls

_WHOLE = 2**30  # what all finite edges together amount to: scipy's flows are integers of 32 bits
_ENDLESS = 2**31 - 1
_DOUBLINGS = 24  # of the price of a byte, until the choice fits a budget


@dataclass(frozen=True)
class Choice:
    """What is stored and what is computed again, as positions of values and of calls.

    Attributes:
        stored: Values.
        again: Calls that the head makes.
    """

    stored: tuple[int, ...]
    again: tuple[int, ...]

    def bytes(self, calls: FrozenCalls) -> int:
        """What is stored for one sample."""
        return sum(calls.values[at].bytes or 0 for at in self.stored)

    def again_s(self, calls: FrozenCalls) -> float:
        """Seconds to compute for one sample what is not stored."""
        return sum(calls.calls[at].seconds for at in self.again)


def frontier_choice(calls: FrozenCalls) -> Choice:
    """Everything that the head reads is stored."""
    return Choice(calls.needed, ())


def choices(calls: FrozenCalls, byte_s: float, call_share: float = 1.0) -> Iterator[Choice]:
    """The cheapest choice, then those for dearer bytes: each stores less than the one before, and computes more.

    Args:
        calls: What there is to choose from.
        byte_s: Seconds that a stored byte costs in an epoch.
        call_share: What a call takes in the head, as a share of its measured seconds.
    """
    last: Choice | None = None
    for doubling in range(_DOUBLINGS):
        found = _cheapest(calls, byte_s * 2**doubling, call_share)
        if found is None:
            return
        if last is None or found.bytes(calls) < last.bytes(calls):
            yield found
            last = found
            if not found.bytes(calls):
                return


def _cheapest(calls: FrozenCalls, byte_s: float, call_share: float) -> Choice | None:
    """The choice of least seconds in an epoch; None where a needed value can be neither stored nor computed."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    # Nodes: needed values (source side: it is needed), the same values computed, calls. An edge that leads from the
    # source side to the other side is paid.
    count, first_call = len(calls.values), 2 * len(calls.values)
    source, sink = first_call + len(calls.calls), first_call + len(calls.calls) + 1
    edges: dict[tuple[int, int], float] = {}
    endless: set[tuple[int, int]] = {(source, at) for at in calls.needed}
    for at, value in enumerate(calls.values):
        can_run = value.call is not None and calls.calls[value.call].again
        if value.bytes is None:
            endless.add((at, count + at))
        else:
            edges[at, count + at] = byte_s * value.bytes
        endless.add((count + at, first_call + value.call if can_run and value.call is not None else sink))
    for at, call in enumerate(calls.calls):
        edges[first_call + at, sink] = call_share * call.seconds
        endless.update((first_call + at, used) for used in call.reads)
    scale = _WHOLE / (sum(edges.values()) or 1.0)
    places = [*edges, *(edge for edge in endless if edge not in edges)]
    amounts = [max(1, round(own * scale)) for own in edges.values()] + [_ENDLESS] * (len(places) - len(edges))
    rows, columns = np.array(places).T
    graph = csr_array((np.array(amounts, np.int32), (rows, columns)), shape=(sink + 1, sink + 1))
    result = maximum_flow(graph, source, sink)
    if result.flow_value >= _ENDLESS - 1:
        return None
    rest = csr_array(graph - result.flow)
    rest.eliminate_zeros()
    reached = set(breadth_first_order(rest, source, return_predecessors=False).tolist())
    if sink in reached:
        return None
    stored = tuple(at for at in range(count) if at in reached and count + at not in reached)
    return Choice(stored, tuple(at for at in range(len(calls.calls)) if first_call + at in reached))
