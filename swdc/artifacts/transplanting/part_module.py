"""A module whose forward is a part of a program's graph."""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from swdc.artifacts.folder.graph_json import decode_graph, encode_graph
from swdc.errors import InputError

GIVEN = "given"


class Signature:
    """How an extracted module is called, and what it returns.

    ``taken`` gives the position of each placeholder among the leaves of the arguments. ``results`` says of each leaf of
    the result whether it is a tensor of the graph, one of the arguments, or a constant. ``shapes`` are those that the
    placeholders have in the example, ``None`` for a size that may change, and nothing for a number.
    """

    def __init__(
        self,
        inputs: pytree.TreeSpec,
        taken: tuple[int, ...],
        outputs: pytree.TreeSpec,
        results: tuple[tuple[str, Any], ...],
        shapes: tuple[tuple[int | None, ...], ...],
    ) -> None:
        self.inputs, self.taken, self.outputs, self.results, self.shapes = inputs, taken, outputs, results, shapes


def _told(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _called(module: nn.Module, arguments: Any) -> None:
    """Do nothing: a hook keeps the fused paths of torch from bypassing the forward of a child."""


class Extracted(nn.Module):
    """Replaces a module of the user whose own forward cannot compute the slim sizes.

    It has the children, tensors and attributes of the module that it replaces, and computes the part of the slim
    program that was traced in it. Call it as the replaced module was called in the example: sizes that do not depend on
    the batch may be those of the example, and then ``fix_sizes`` makes calls with others an error.
    """

    def __init__(self, replaced: nn.Module, graph: fx.Graph, signature: Signature) -> None:
        """Take over everything that ``replaced`` holds; the graph calls its children by their paths below it."""
        super().__init__()
        own = {**vars(replaced), "forward": None}
        del own["forward"]
        self.__dict__.update({k: v.copy() if isinstance(v, dict) and k.startswith("_") else v for k, v in own.items()})
        self._replaced = type(replaced).__name__
        self._graph, self._signature, self._sized = graph, signature, False
        self.register_forward_pre_hook(_called)
        self._compile()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the replaced module did. Raises ``InputError`` if the call differs from the example."""
        leaves, spec = pytree.tree_flatten((args, kwargs))
        if spec != self._signature.inputs:
            raise InputError(
                f"expected {self._replaced} to be called as in the example ({self._signature.inputs}), got {spec}; "
                f"transplant a slim program of a model that was traced with this call"
            )
        given = [leaves[i] for i in self._signature.taken]
        if self._sized:
            self._check_sizes(given)
        results = self._function(self, *given)
        outputs = [results[c] if kind == "tensor" else leaves[c] if kind == GIVEN else c
                   for kind, c in self._signature.results]  # fmt: skip
        return pytree.tree_unflatten(outputs, self._signature.outputs)

    def fix_sizes(self) -> None:
        """Take only tensors of the sizes of the example from now on."""
        self._sized = True

    @property
    def has_fixed_sizes(self) -> bool:
        """Whether it takes only tensors of the sizes of the example."""
        return self._sized

    def _check_sizes(self, given: list[Any]) -> None:
        for tensor, shape in zip(given, self._signature.shapes, strict=True):
            if isinstance(tensor, int):
                continue
            sizes = tuple(tensor.shape)
            if len(sizes) != len(shape) or any(w not in (None, s) for w, s in zip(shape, sizes, strict=True)):
                raise InputError(
                    f"expected {self._replaced} to be called with a tensor of the sizes of the example, "
                    f"{_told(shape)}, got {_told(sizes)}; trace the model at the sizes that you need, then slim it"
                )

    def extra_repr(self) -> str:
        """Return the class of the replaced module."""
        return f"in place of {self._replaced}"

    def _compile(self) -> None:
        code = self._graph.python_code("self")
        scope = dict(code.globals)
        exec(compile(code.src, f"<swdc: in place of {self._replaced}>", "exec"), scope)
        self._function = scope["forward"]

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_graph": encode_graph(self._graph)}
        del state["_function"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_graph": decode_graph(state["_graph"])})  # type: ignore[no-untyped-call]
        self._compile()
