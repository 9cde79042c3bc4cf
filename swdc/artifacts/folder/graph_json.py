"""A program without its tensors as JSON: nodes, leaf modules, signature, facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from keyword import iskeyword
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.fx.graph import _custom_builtins, _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from swdc.analysis.coupling import coupling_of
from swdc.artifacts.folder.consistency import check_example, check_modes
from swdc.artifacts.folder.facts_json import decode_facts, encode_facts
from swdc.artifacts.folder.json_values import (
    decode,
    decode_object,
    decode_target,
    encode,
    encode_object,
    encode_target,
)
from swdc.artifacts.folder.structures import decode_structure, encode_structure
from swdc.artifacts.storage.folders import readable
from swdc.errors import ArtifactError, SwdcError
from swdc.ir.call import Call, source_of
from swdc.ir.graph import DTYPE, SCOPE, SHAPE, STACK_TRACE
from swdc.ir.groups import Coupling
from swdc.ir.program import Program
from swdc.ir.program_facts import Facts
from swdc.ir.sizes import parse
from swdc.ops import Leaf, leaf_of, lookup

GRAPH = "graph.json"
_MOST_NODES = 60_000
"""More nodes than programs have; so many are read in a few seconds."""
_OPS = ("placeholder", "get_attr", "call_function", "call_module", "output")
_TAKEN = {"self", *_custom_builtins}
"""Names that the code which torch.fx generates uses itself."""


# -- writing -----------------------------------------------------------------------------------------------


def encode_program(program: Program) -> dict[str, Any]:
    """Return a program as JSON data, without its tensors and its origin.

    Raises ``ArtifactError`` if it holds an operator, an argument, a module or a container that cannot be
    written as JSON.
    """
    codegen = program.graph._codegen
    assert isinstance(codegen, _PyTreeCodeGen)
    info = codegen.pytree_info
    example, structure = pytree.tree_flatten(program.facts.example)
    tensors = {str(number): leaf for number, leaf in enumerate(example) if isinstance(leaf, torch.Tensor)}
    return {
        "nodes": encode_graph(program.graph),
        "leaves": {path: _encode_leaf(module, path) for path, module in program.leaves.items()},
        "signature": {
            "arguments": list(info.orig_args),
            "inputs": encode_structure(info.in_spec),
            "outputs": encode_structure(info.out_spec),
        },
        "facts": encode_facts(program.facts),
        "example": {
            "structure": encode_structure(structure),
            "constants": {str(i): encode_object(leaf) for i, leaf in enumerate(example) if str(i) not in tensors},
        },
        "modes": {path: module.training for path, module in program.named_modules(remove_duplicate=False)},
    }


def encode_graph(graph: fx.Graph) -> list[dict[str, Any]]:
    """Return the nodes of a graph as JSON data, without its signature."""
    _check_number(len(graph.nodes))
    return [_encode_node(node) for node in graph.nodes]


def _encode_node(node: fx.Node) -> dict[str, Any]:
    called = node.op == "call_function"
    data: dict[str, Any] = {
        "op": node.op,
        "name": node.name,
        "target": encode_target(node.target) if called else str(node.target),
        "args": encode(list(node.args)),
        "kwargs": {name: encode(value) for name, value in node.kwargs.items()},
    }
    if SHAPE in node.meta:
        data["shape"] = _encode_shape(node.meta[SHAPE])
    if node.meta.get(DTYPE) is not None:
        data["dtype"] = encode(node.meta[DTYPE])
    for key, text in (("scope", node.meta.get(SCOPE)), ("source", source_of(node))):
        if text:
            data[key] = text
    return data


def _encode_shape(shape: Any) -> Any:
    if shape is None or isinstance(shape, int):
        return shape
    return [_encode_shape(size) for size in shape] if isinstance(shape, tuple) else str(shape)


def _encode_leaf(module: nn.Module, path: str) -> dict[str, Any]:
    try:
        leaf = leaf_of(module)
    except SwdcError as error:
        raise ArtifactError(
            f"expected leaf modules that swdc has built, got {type(module).__name__} at {path!r}; undo the "
            f"replacement, or register a swdc.ops.Leaf for it"
        ) from error
    operator, arguments = leaf.arguments(module, path)
    return {"operator": operator, "arguments": {name: encode(value) for name, value in arguments.items()}}


# -- reading -----------------------------------------------------------------------------------------------


def decode_program(
    data: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    example: Mapping[str, torch.Tensor],
    transient: Iterable[str],
) -> Program:
    """Return the program that ``encode_program`` wrote, with the given parameters and buffers in order.

    ``data`` are of the form ``Graph``.
    ``example`` holds the tensors of the example inputs by their position. Raises ``ArtifactError`` if the
    data names an operator, a module or a container that is not known here, or has a name that is not valid.
    """
    nameless = [name for name in (*tensors, *data["leaves"]) if "" in name.split(".")]
    if nameless:
        raise ArtifactError(
            f"expected names between the dots of tensors and modules, got {nameless[0]!r:.200}; rename it"
        )
    graph = decode_graph(data["nodes"])
    _check_targets(graph, set(tensors), set(data["leaves"]))
    graph.set_codegen(_PyTreeCodeGen(_decode_signature(data["signature"], graph)))
    called = {str(node.target): node for node in reversed(graph.find_nodes(op="call_module"))}
    leaves = {path: _decode_leaf(leaf, called[path], tensors) for path, leaf in data["leaves"].items()}
    facts = data["facts"]
    inputs = _decode_example(data["example"], example)
    known = Facts(
        _decode_symbols(facts["symbols"], facts["batch"], graph),
        facts["batch"],
        inputs,
        **decode_facts(facts, data["signature"]["arguments"]),
    )
    program = Program(graph, tensors, leaves, known, transient, analyse=_analysed)
    check_modes(program, data["modes"])
    check_example(program)
    for path, training in data["modes"].items():
        program.get_submodule(path).training = training
    return program


def _check_number(nodes: int) -> None:
    if nodes > _MOST_NODES:
        raise ArtifactError(f"expected a graph of at most {_MOST_NODES} nodes, got {nodes}; a larger one is not stored")


def decode_graph(rows: list[dict[str, Any]]) -> fx.Graph:
    """Return the graph whose nodes ``encode_graph`` wrote."""
    _check_number(len(rows))
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for row in rows:
        name = row["name"]
        if name in nodes or name in _TAKEN or row["op"] not in _OPS:
            raise ArtifactError(
                f"expected distinct nodes of the kinds {list(_OPS)}, got {row['op']} {name!r} in graph.json"
            )
        node = graph.create_node(
            row["op"], _decode_node_target(row), tuple(decode(row["args"], nodes)),
            {_identifier(key): decode(value, nodes) for key, value in row["kwargs"].items()}, name,
        )  # fmt: skip
        node.name = _identifier(name)
        node.meta = _decode_meta(row)
        nodes[name] = node
    return graph


def _decode_node_target(row: Mapping[str, Any]) -> Any:
    if row["op"] == "call_function":
        return decode_target(row["target"])
    target: str = row["target"]  # in code, names of tensors and modules stand in quotes, with escapes
    return target if row["op"] in ("call_module", "get_attr") else _identifier(target)


def _decode_meta(row: Mapping[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {DTYPE: decode(row.get("dtype"), {}), SCOPE: row.get("scope", "")}
    if not all(isinstance(one, torch.dtype | None) for one in pytree.tree_leaves(meta[DTYPE])):
        raise ArtifactError(f"expected the types of {row['name']}, got {row['dtype']}; save it again")
    if not isinstance(row.get("shape"), list | None):
        raise ArtifactError(f"expected a list of sizes as the shape of {row['name']}, got {row['shape']!r}")
    if "shape" in row:
        meta[SHAPE] = _decode_shape(row["shape"])
    if "source" in row:
        file, _, line = " ".join(row["source"].splitlines()).rpartition(":")
        meta[STACK_TRACE] = f'File "{file}", line {line}, in forward'
    return meta


def _decode_shape(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_decode_shape(size) for size in data)
    return data if data is None else parse(data)


def _analysed(program: Program) -> Coupling:
    """Return the coupling of a program; ``ArtifactError`` if its sizes do not fit its operators."""
    with readable(Path(GRAPH)):
        return coupling_of(program)


def _decode_leaf(data: Mapping[str, Any], node: fx.Node, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build a leaf module from the call that it replaces, as capture does."""
    operator = lookup(data["operator"])
    arguments = {name: decode(value, {}) for name, value in data["arguments"].items()}
    module = None
    if isinstance(operator, Leaf):
        module = operator.build(Call(node, data["operator"], {"input": node.args[0], **arguments}), tensors)
    if module is None:
        raise ArtifactError(
            f"expected a leaf module for {data['operator']} at {node.target!r}, but none is known here; register "
            f"the swdc.ops.Leaf that the program was saved with"
        )
    return module


def _check_targets(graph: fx.Graph, tensors: set[str], leaves: set[str]) -> None:
    """Raise ``ArtifactError`` unless nodes fetch tensors and call modules of the program, and one node returns."""
    known = {"get_attr": tensors, "call_module": leaves}
    wrong = [node for node in graph.nodes if node.op in known and node.target not in known[node.op]]
    if wrong:
        raise ArtifactError(f"expected tensors and modules of the program, got {wrong[0].target!r}; save it again")
    if [node.op for node in graph.nodes].index("output") != len(graph.nodes) - 1:
        raise ArtifactError("expected the node that returns to be the last one in graph.json; save it again")


def _decode_symbols(symbols: Mapping[str, Any], batch: Any, graph: fx.Graph) -> dict[str, int]:
    """Return the sizes in the example by symbol; raise ``ArtifactError`` if a size in the graph needs another."""
    sizes = pytree.tree_leaves([node.meta.get(SHAPE) for node in graph.nodes])
    named = {str(s) for size in sizes if isinstance(size, sympy.Expr) for s in size.free_symbols}
    if batch is not None:
        named.add(batch)
    if not named <= set(symbols) or min(symbols.values(), default=0) < 0:
        raise ArtifactError(f"expected a size for each of {sorted(named)}, got {dict(symbols)}; save it again")
    return dict(symbols)


def _decode_signature(data: Mapping[str, Any], graph: fx.Graph) -> _PyTreeInfo:
    names = [_identifier(name) for name in data["arguments"]]
    inputs, outputs = decode_structure(data["inputs"]), decode_structure(data["outputs"])
    positional, keywords = inputs.children()
    for name in keywords.context:
        _identifier(name)
    returned = graph.output_node().args[0]
    given = len(graph.find_nodes(op="placeholder")), len(set(names)), len(returned)  # type: ignore[arg-type]
    wanted = inputs.num_leaves, positional.num_children + keywords.num_children, outputs.num_leaves
    if given != wanted or len(set(names)) != len(names):
        raise ArtifactError(
            f"expected {wanted} inputs, arguments and outputs, as the structures in graph.json have them, got {given}; "
            f"save the program again"
        )
    return _PyTreeInfo(names, inputs, outputs)


def _decode_example(data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    leaves = {**{i: decode_object(value) for i, value in data["constants"].items()}, **tensors}
    if len(leaves) < len(data["constants"]) + len(tensors):
        raise ArtifactError("expected each example input once, got one as a tensor and as a constant; save it again")
    return pytree.tree_unflatten([leaves[str(i)] for i in range(len(leaves))], decode_structure(data["structure"]))


def _identifier(name: Any) -> str:
    """Return a name if it is an identifier, because torch.fx writes it into the code that it generates."""
    if not isinstance(name, str) or not name.isidentifier() or iskeyword(name):
        raise ArtifactError(f"expected names that are Python identifiers in graph.json, got {name!r}; save it again")
    return name
