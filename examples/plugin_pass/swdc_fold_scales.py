"""A pass in a package of its own: layers take over the number that their result is multiplied with."""

from dataclasses import dataclass

import torch
from torch import fx, nn

import swdc
from swdc.errors import PassError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class FoldScales(swdc.Pass):
    """Multiply the weights of a layer instead of its result.

    ::

        x -> fc -> mul(3.0) -> relu            fc.weight = w,    fc.bias = b
        x -> fc -> relu                        fc.weight = 3 w,  fc.bias = 3 b

    Only scales of at most ``largest`` are folded. The result holds new parameters for these layers, and the given
    program's own for all others.
    """

    largest: float = 1e6

    def requires(self, program: swdc.Program) -> None:
        """Check that the program has values to multiply."""
        if any(tensor.is_meta for tensor in program.tensors.values()):
            raise PassError("expected a program with values, got one on the meta device; give it values first")

    def apply(self, program: swdc.Program) -> swdc.PassResult:
        """Return the program without scales after layers, or the given one if there are none."""
        tensors, instead = program.tensors, dict[fx.Node, fx.Node]()
        for node, (_, call) in swdc.calls(program).items():
            layer = self._layer(program, call)
            if layer is None:
                continue
            module, scale = program.leaves[str(layer.target)], call["other"]
            for name, old in module.named_parameters():
                tensors[f"{layer.target}.{name}"] = nn.Parameter(old.detach() * scale, old.requires_grad)
            instead[node] = layer
        if not instead:
            return swdc.PassResult(program, modified=False)
        return swdc.PassResult(swdc.revise(program, tensors, instead=instead), modified=True)

    def _layer(self, program: swdc.Program, call: swdc.Call) -> fx.Node | None:
        """Return the layer that can take over what a call multiplies with, if there is one."""
        if call.operator != "aten.mul.Tensor" or not isinstance(call["other"], int | float):
            return None
        layer = call["self"]
        if not isinstance(layer, fx.Node) or layer.op != "call_module" or abs(call["other"]) > self.largest:
            return None
        same = [node for node in program.graph.nodes if node.op == "call_module" and node.target == layer.target]
        shared = len(layer.users) > 1 or len(same) > 1 or self._is_tied(program, str(layer.target))
        return None if shared or not isinstance(program.leaves[str(layer.target)], LAYERS) else layer

    @staticmethod
    def _is_tied(program: swdc.Program, path: str) -> bool:
        """Whether another name leads to a parameter of the layer, too."""
        own: set[int] = {id(parameter) for parameter in program.leaves[path].parameters()}
        names = [name for name, tensor in program.tensors.items() if id(tensor) in own]
        return len(names) > len(own)


def example() -> tuple[nn.Module, torch.Tensor]:
    """Return a small network with two scales, one of which a layer can take over, and an input."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(x) * 3.0) * 0.5)

    return Scaled(), torch.randn(2, 8)
