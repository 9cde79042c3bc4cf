"""The way of the data through the layers of a program: their order, and the connections that pass over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from swdc.ir.groups import Coupling, labelled
from swdc.ir.program import Program
from swdc.ops import lookup


def widths_along_the_graph(program: Program, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return, as plain data, the widths of layers in the order in which they run, and what passes over them.

    ``layers`` are those of ``Slimming.to_dict``; norms, and layers without a width, are left out. ``frozen`` is how
    many of the channels before may not be removed, ``None`` if the analysis does not say. A skip ``[i, j]`` is a
    connection from behind layer ``i - 1`` (0 is the input) to before layer ``j``, past those between.
    """
    shown = {str(layer["name"]): layer for layer in layers if _has_a_width(layer)}
    number = {name: index for index, name in enumerate(shown)}
    coupling = program.coupling
    frozen = {
        str(node.target): _frozen(coupling, node, shown[str(node.target)]["width"]["before"])
        for node in program.graph.nodes
        if node.op == "call_module" and node.target in shown
    }
    told = [{"name": name, **layer["width"], "frozen": frozen.get(name)} for name, layer in shown.items()]
    return {"layers": told, "skips": _skips(program.graph, coupling, number)}


def _has_a_width(layer: Mapping[str, Any]) -> bool:
    return layer["width"]["before"] is not None and not lookup(layer["operator"]).is_norm


def _frozen(coupling: Coupling, node: fx.Node, width: int) -> int | None:
    """Return how many of the channels that a layer writes stand in no group."""
    written = next((ids for ids in labelled(coupling.nodes.get(node.name)) if len(ids) == width), None)
    return None if written is None else int((coupling.group_of[written] < 0).sum())


def _skips(graph: fx.Graph, coupling: Coupling, number: Mapping[str, int]) -> list[list[int]]:
    """Return the connections that pass over layers. Values without channels, such as masks and sizes, are no data.

    Each value has a place: that of the layer behind which it stands. Where values from several places meet, the result
    stands at the last of them, and the others pass over what lies between.
    """
    place: dict[fx.Node, int] = {}
    skips: dict[tuple[int, int], None] = {}
    for node in graph.nodes:
        came = {place[value] for value in node.all_input_nodes if value in place}
        layer = number.get(str(node.target)) if node.op == "call_module" else None
        if layer is not None:
            skips.update(dict.fromkeys((start, layer) for start in sorted(came) if start < layer))
            place[node] = layer + 1
        elif node.op == "placeholder" or any(True for _ in labelled(coupling.nodes.get(node.name))):
            place[node] = max(came, default=0)
            skips.update(dict.fromkeys((start, place[node]) for start in sorted(came) if start < place[node]))
    return [list(skip) for skip in skips]
