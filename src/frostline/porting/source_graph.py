"""How values flow between the units of a file that carries its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.target_graph import contracted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.readers.contract import Source
    from frostline.porting.target_graph import Edges
    from frostline.porting.units import SourceUnit


def flow(source: Source, units: Sequence[SourceUnit]) -> Edges | None:
    """For each unit the units before it; None if the file does not carry its architecture."""
    if not source.layers:
        return None
    order = {layer.name: index for index, layer in enumerate(source.layers)}
    nodes: list[tuple[list[str], list[int]]] = []
    for layer in source.layers:
        own = [unit.name for unit in units if unit.name == layer.name or unit.name.startswith(f"{layer.name}/")]
        nodes.append((own, [order[name] for name in layer.inputs if name in order]))
    return contracted(nodes)
