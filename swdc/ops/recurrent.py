"""Recurrent layers and cells: LSTM, GRU and plain ones, stacked, in both directions, with projections.

A hidden unit is a channel. It has one row in every gate, so these rows are coupled. If they are zero, a unit that
starts at zero stays zero: in an LSTM c' = c / 2 + tanh(0) / 2 and h = tanh(c) / 2, in a GRU h' = tanh(0) / 2 + h / 2.
All layers and directions share one tensor of states, so they keep the same units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, Value
from swdc.ir.groups import READS, WRITES, Ids
from swdc.ops.along_positions import is_several
from swdc.ops.base import Operator, register, target_of
from swdc.ops.call_cost import Cost, ShapeOf
from swdc.ops.freezing import freeze_call

_KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@dataclass(frozen=True)
class Gates:
    """The tensors of one layer in one direction, named as in torch: gates are stacked along the first dimension."""

    weight_ih: Value
    weight_hh: Value
    biases: tuple[Value, ...]
    weight_hr: Value | None = None

    @property
    def matrices(self) -> tuple[Value, ...]:
        """Return the weights, without biases."""
        return (self.weight_ih, self.weight_hh, *(() if self.weight_hr is None else (self.weight_hr,)))


class _Recurrent(Operator):
    """Base of recurrent layers and cells."""

    data: ClassVar[str] = "input"
    """The argument that holds the inputs of the steps."""

    def layers(self, call: Call) -> list[list[Gates]]:
        """Return the tensors of each layer, in each direction."""
        biases = tuple(b for b in (call["b_ih"], call["b_hh"]) if b is not None)
        return [[Gates(call["w_ih"], call["w_hh"], biases)]]

    def results(self, outputs: Ids | None, states: list[Any]) -> list[Any]:
        """Return the labels of all results, given those of the last layer's outputs and of the states."""
        return states

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the rows of all gates with the states, and the inputs of each layer with the outputs before it."""
        layers, states = self.layers(call), _states(call)
        if not all(isinstance(t, Ref) for layer in layers for g in layer for t in (*g.matrices, *g.biases)):
            freeze_call(call, channels, "has weights that are computed")
            return
        x, last = call[self.data], len(channels.sizes(call[self.data])) - 1
        units = [_fresh(channels, channels.sizes(state)[-1]) for state in states]
        if layers[0][0].weight_hr is None:
            units = [units[0]] * len(units)
        else:  # if states have equal widths, torch assumes that there is no projection
            channels.freeze(units[-1], call.reason("has projections, which must stay narrower than its cells"))
        for state, labels in zip(states, units, strict=True):
            _start(call, channels, state, labels)
        channels.hold(x, range(last), call)
        for gates in layers[0]:
            channels.contract(call, x, last, gates.weight_ih, 1, folds=False)
        outputs = None if units[0] is None else np.tile(units[0], len(layers[0]))
        for number, layer in enumerate(layers):
            for gates in layer:
                if number > 0:
                    channels.bind(gates.weight_ih, 1, outputs, READS, call)
                _bind(call, channels, gates, units[0], units[-1])
        rank = len(channels.sizes(states[0]))
        results = self.results(outputs, [[*[None] * (rank - 1), ids] for ids in units])
        channels.set(call, results if is_several(call) else results[0])

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead unit is zero at every step."""
        shapes: Any = call.shape if is_several(call) else [call.shape]
        dead = [[*[UNKNOWN] * (len(shape) - 1), channels.dead.zeroed()] for shape in shapes]
        channels.set_dead(call, dead if is_several(call) else dead[0])

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """Each matrix is a dense layer, f_in x f_out + f_out, at every step."""
        x = call[self.data]
        steps = tuple((x, dim) for dim in range(len(shape_of(x)) - 1))
        matrices = [m for layer in self.layers(call) for gates in layer for m in gates.matrices]
        products = [Cost((*steps, (m, 0), (m, 1)), 1, 1, 1) for m in matrices]
        return (*products, *(Cost((*steps, (m, 0)), 1, 1, 0) for m in matrices))


@register
class RecurrentLayers(_Recurrent):
    """Layers over a sequence, time or batch first."""

    names = tuple(f"aten.{kind}.input" for kind in _KINDS)
    functions = tuple(getattr(torch, kind) for kind in _KINDS)

    def layers(self, call: Call) -> list[list[Gates]]:
        """Return the tensors of each layer, in each direction, out of one list."""
        params, directions = call["params"], 2 if call["bidirectional"] else 1
        size = len(params) // (call["num_layers"] * directions)
        biases = 2 if call["has_biases"] else 0
        rows = [params[i : i + size] for i in range(0, len(params), size)]
        gates = [Gates(r[0], r[1], tuple(r[2 : 2 + biases]), *r[2 + biases :]) for r in rows]
        return [gates[i : i + directions] for i in range(0, len(gates), directions)]

    def results(self, outputs: Ids | None, states: list[Any]) -> list[Any]:
        """Outputs of both directions are concatenated."""
        return [[None, None, outputs], *states]

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """Outputs, then the states; for packed sequences, which the functions also take, torch is asked."""
        return None if len(args) > 3 and not isinstance(args[3], bool) else _empty(*args)


@register
class PackedRecurrentLayers(RecurrentLayers):
    """Layers over packed sequences: the steps of all sequences along one dimension."""

    names = tuple(f"aten.{kind}.data" for kind in _KINDS)
    functions = ()
    data = "data"

    def results(self, outputs: Ids | None, states: list[Any]) -> list[Any]:
        """Outputs are packed as the inputs are."""
        return [[None, outputs], *states]


@register
class RecurrentCell(_Recurrent):
    """One step of one layer."""

    names = tuple(f"aten.{kind}.default" for kind in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"))


LAYERS: tuple[Any, ...] = tuple(map(target_of, RecurrentLayers.names))
"""The overloads of recurrent layers, which torch decomposes into steps."""


def _empty(
    x: torch.Tensor,
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    states = list(hx) if isinstance(hx, list | tuple) else [hx]
    first, second = (1, 0) if batch_first else (0, 1)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    outputs = x.new_empty(x.shape[first], x.shape[second], width)
    return (outputs.transpose(0, 1) if batch_first else outputs, *(torch.empty_like(state) for state in states))


def _states(call: Call) -> list[Value]:
    """Return the initial states: the hidden state, then the cell state of an LSTM."""
    hx = call["hx"]
    return list(hx) if isinstance(hx, list | tuple) else [hx]


def _fresh(channels: Channels, size: int) -> Ids | None:
    return channels.fresh(size) if size > 1 else None


def _start(call: Call, channels: Channels, state: Value, units: Ids | None) -> None:
    """Couple an initial state with the units; one that does not start at zero when dead is frozen.

    The layer itself reads every unit, so that none goes unless a mask sets what writes it to zero.
    """
    last = len(channels.sizes(state)) - 1
    channels.bind(state, last, units, WRITES, call)
    channels.hold(state, range(last), call)
    if units is None:
        return
    if np.isnan(channels.dead.zeroed()):
        channels.freeze(units, call.reason("reads its units at the next step"))
    else:
        moving = np.broadcast_to(np.asarray(channels.dead(state)[last]) != 0, units.shape)
        text = "starts from a state that is not zero where the unit is dead"
        channels.freeze(units[moving], call.reason(text, edit="leave the initial state out: it is zero then"))


def _bind(call: Call, channels: Channels, gates: Gates, outputs: Ids | None, units: Ids | None) -> None:
    """Bind the tensors of one layer in one direction; without a projection the outputs are the units."""
    gate_count = channels.sizes(gates.weight_ih)[0] // (1 if units is None else len(units))
    rows = None if units is None else np.tile(units, gate_count)
    for tensor in (gates.weight_ih, gates.weight_hh, *gates.biases):
        channels.bind(tensor, 0, rows, WRITES, call)
    channels.bind(gates.weight_hh, 1, outputs, READS, call)
    channels.bind(gates.weight_hr, 0, outputs, WRITES, call)
    channels.bind(gates.weight_hr, 1, units, READS, call)
