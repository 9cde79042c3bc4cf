"""The signature of an exported file: a flat list of named tensors in, a flat list of named tensors out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import fx
from torch.fx.graph import CodeGen

from swdc.artifacts.plain_calls import say_plainly
from swdc.errors import ExportError
from swdc.ir.call import bind, source_of
from swdc.ir.conditions import is_axis
from swdc.ir.graph import SHAPE, copy_graph
from swdc.ir.name_mangling import speakable
from swdc.ir.plain_results import input_names, is_tensor
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.base import name_of
from swdc.ops.copies import contiguous_copy
from swdc.ops.in_place import operator_of, writes


def flattened(program: Program) -> fx.GraphModule:
    """Return a copy that takes and returns tensors only, one by one, in evaluation mode.

    ONNX has no counterpart of nested and keyword arguments. Arguments that are not tensors are already constants
    of the graph.
    """
    flat = _speakable(program.clone())
    kept = input_names(program)
    for node in flat.graph.find_nodes(op="placeholder"):
        if node.name not in kept:
            flat.graph.erase_node(node)
    output = next(n for n in flat.graph.nodes if n.op == "output")
    output.args = (tuple(value for value in output.args[0] if is_tensor(value)),)
    for node in [node for node in flat.graph.nodes if writes(node) and not node.users]:
        flat.graph.erase_node(node)  # a file keeps nothing from one run to the next
    called = [node for node in flat.graph.nodes if node.op == "call_function"]
    for node in called:
        _say(node)
    flat.graph.set_codegen(CodeGen())
    flat.recompile()
    return flat.eval()


def _speakable(program: Program) -> Program:
    """Return the program with names of modules and tensors that the exporter can write into code of its own."""
    names = speakable({**dict.fromkeys(program.leaves), **program.tensors}, program.is_taken)
    if all(name == said for name, said in names.items()):
        return program
    leaves = {names[path]: module for path, module in program.leaves.items()}
    owned = {
        f"{path}.{name}": f"{names[path]}.{name}"
        for path, leaf in program.leaves.items()
        for name in (*leaf._parameters, *leaf._buffers)
    }
    names |= owned
    graph = copy_graph(program.graph)
    for node in graph.nodes:
        node.target = names[str(node.target)] if node.op in ("get_attr", "call_module") else node.target
    tensors = {names[name]: tensor for name, tensor in program.tensors.items()}
    return program.rebuilt(graph=graph, tensors=tensors, leaves=leaves)


def _say(node: fx.Node) -> None:
    """Write a call in a form that the exporter knows. Raises ``ExportError`` if a file cannot say it."""
    operator = operator_of(node.target)
    why = operator.unsaid(bind(node))
    if why:
        raise ExportError(
            f"expected calls that an ONNX file can say, but {name_of(node.target)} at {source_of(node)} {why}"
        )
    if operator.layout == "chosen":
        _lay_out(node)
    say_plainly(node)


def _lay_out(node: fx.Node) -> None:
    """Copy the result of an attention, or of another operator like it, into the usual layout.

    Its layout in memory depends on the kernel. The exporter decides with one kernel which reshapes are views, and
    decomposes operators with another. The copy is an identity in ONNX.
    """
    readers = list(node.users)
    with node.graph.inserting_after(node):
        copy = contiguous_copy(node)
    for reader in readers:
        reader.replace_input_with(node, copy)


def dynamic_sizes(
    program: Program, placeholders: Sequence[fx.Node], fixed: Collection[str] = ()
) -> tuple[dict[int, str] | None, ...]:
    """Return the names of the dynamic dimensions of each input, without those of ``fixed`` symbols.

    Equal sizes have equal names. A size has the name of its symbol (``height``), or, if that says nothing, a name of
    its input and dimension.
    """
    names: dict[str | None, str] = {s: s for s in filter(is_axis, program.facts.symbols)}
    names[program.facts.batch] = "batch"
    dynamic = []
    for node in placeholders:
        free = [(dim, size) for dim, size in enumerate(node.meta[SHAPE]) if not isinstance(size, int)]
        sizes = {dim: str(size) for dim, size in free if not {str(s) for s in size.free_symbols} <= {*fixed}}
        named = {dim: names.setdefault(size, f"{node.name}_dim{dim}") for dim, size in sizes.items()}
        dynamic.append(named or None)
    return tuple(dynamic)


def example_sizes(program: Program) -> dict[str, int]:
    """Return a size of each dynamic dimension by name, at which to try a program: the example's, and a batch of 2."""
    kept = input_names(program)
    placeholders = [node for node in program.graph.find_nodes(op="placeholder") if node.name in kept]
    sizes = program.facts.sizes(program.facts.nearest_batch(2))
    found: dict[str, int] = {}
    for node, named in zip(placeholders, dynamic_sizes(program, placeholders), strict=True):
        shape = evaluate(node.meta[SHAPE], sizes)
        found |= {name: shape[dim] for dim, name in (named or {}).items()}
    return found


def name_values(graph: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name the inputs and outputs of an ONNX graph; rename any other value that has one of these names."""
    public = [*zip(graph.inputs, inputs, strict=True), *zip(graph.outputs, outputs, strict=True)]
    values = [*graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)]
    names = {name for _, name in public}
    ours = {id(value) for value, _ in public}
    for number, value in enumerate(values):
        if value.name in names and id(value) not in ours:
            value.name = f"{value.name}.{number}"
    for number, (value, _) in enumerate(public):
        value.name = f".{number}"  # two of them may exchange their names
    for value, name in public:
        value.name = name
