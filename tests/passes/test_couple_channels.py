"""The dependency analysis: groups, their members and names, frozen channels and what is said about them."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import swdc
from passes.couple_channels import CoupleChannels
from swdc.ir.groups import READS, STATISTIC, WRITES
from swdc.ir.program import Program
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, conv, image, text, traced


class Network(nn.Module):
    """A residual block, a concatenation, a head: what the analysis has to tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = conv(3, 4), conv(4, 4), nn.BatchNorm2d(4)
        self.side, self.mixing, self.held, self.head = conv(4, 6), conv(10, 4), nn.Softmax(1), nn.Linear(64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(y + self.norm(self.conv(y)))
        y = self.held(self.mixing(torch.cat([y, self.side(y)], 1)))
        result: torch.Tensor = self.head(nn.functional.max_pool2d(y, 2).flatten(1))
        return result


def described(program: Program) -> str:
    """Return the groups with every member, index by index, and what is frozen."""
    lines = []
    for group in program.groups:
        lines.append(f"{group.name}: {group.width}")
        for m in group.members:
            lines.append(f"  {m.tensor}[{m.dim}] {'+'.join(sorted(m.roles))} {m.indices.tolist()}")
    for f in program.frozen:
        reason = f.reason
        lines.append(
            f"frozen {f.tensor}[{f.dim}] {f.indices.tolist()}: {reason.operator} {reason.text}".replace(":  ", ": ")
        )
    return "\n".join(lines) + "\n"


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(Network())
    golden("couple_channels.before", text(program))
    golden("couple_channels.after", described(program))


def test_the_pass_changes_nothing() -> None:
    program = traced(Network())
    result = run(program, [CoupleChannels()])
    assert result.program is program
    assert not result.modified
    assert apply(program, "couple-channels") is program


def test_roles() -> None:
    program = traced(Network())
    group = program.groups[0]
    roles = {f"{m.tensor}[{m.dim}]": m.roles for m in group.members}
    assert roles["stem.weight[0]"] == roles["norm.weight[0]"] == roles["norm.bias[0]"] == {WRITES}
    assert roles["conv.weight[1]"] == roles["side.weight[1]"] == roles["mixing.weight[1]"] == {READS}
    assert roles["norm.running_var[0]"] == {STATISTIC}
    assert {m.tensor for m in group.with_role(STATISTIC)} == {"norm.running_mean", "norm.running_var"}


def test_every_index_of_every_tensor_is_in_one_group_or_frozen() -> None:
    program = traced(Network())
    for name, tensor in program.tensors.items():
        for dim in range(min(2, tensor.dim())):
            owners = np.zeros(tensor.shape[dim], dtype=int)
            for group in program.groups:
                for m in group.members:
                    if (m.tensor, m.dim) == (name, dim):
                        np.add.at(owners, m.indices.ravel(), 1)
            for frozen in program.frozen:
                if (frozen.tensor, frozen.dim) == (name, dim):
                    np.add.at(owners, frozen.indices, 1)
            assert (owners == 1).all(), (name, dim, owners)


def test_names_are_unique_and_those_of_what_writes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(y[:, :2]) + m.e(y[:, 2:6]) + m.f(y)

    program = traced(Function(forward, c=conv(3, 8), d=conv(2, 2), e=conv(4, 2), f=conv(8, 2)))
    assert [(group.name, group.width) for group in program.groups] == [("c", 2), ("c#2", 4), ("c#3", 2)]
    assert program.coupling.names() == ("c", "c#2", "c#3")
    assert program.coupling.group("c#2").width == 4
    with pytest.raises(KeyError, match="c#4"):
        program.coupling.group("c#4")


def test_channels_that_occur_differently_are_different_groups() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        return m.d(torch.cat([y, y[:, :3]], 1))

    program = traced(Function(forward, c=conv(3, 5), d=conv(8, 2)))
    assert [(g.width, g.members[-1].multiplicity) for g in program.groups] == [(3, 2), (2, 1)]


def test_explain_names_groups_reasons_and_source_lines() -> None:
    told = traced(Network()).explain()
    assert "3 groups" not in told
    assert "2 groups of channels that can be removed" in told
    assert "aten.softmax.int: normalises over the channels" in told
    assert "is the model's output" in told
    assert ".py:" in told
    nothing = traced(nn.Sequential(nn.ReLU(), nn.Flatten()))
    assert "nothing is frozen" in nothing.explain()


def test_the_coupling_graph() -> None:
    program = traced(Network())
    graph = program.to_networkx()
    assert isinstance(graph, nx.Graph)
    groups = {name for name, data in graph.nodes(data=True) if data["kind"] == "group"}
    assert groups == {group.name for group in program.groups}
    assert nx.is_bipartite(graph)
    assert graph.edges["stem", "norm.bias[0]"]["roles"] == [WRITES]
    assert "normalises over" in graph.nodes["mixing.weight[0]"]["reason"]


def test_the_analysis_is_kept_until_the_graph_changes() -> None:
    program = traced(Network())
    first = program.coupling
    assert program.coupling is first
    program.recompile()
    assert program.coupling is not first


def test_a_model_without_channels_to_remove() -> None:
    program = traced(nn.Linear(4, 3), image(2, 4))
    assert program.groups == ()
    assert {(f.tensor, f.dim) for f in program.frozen} == {("weight", 0), ("weight", 1), ("bias", 0)}


def test_the_analysis_takes_linear_time() -> None:
    def seconds(blocks: int) -> float:
        parts = [part for _ in range(blocks) for part in (conv(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())]
        program = swdc.trace(nn.Sequential(*parts).eval(), torch.randn(1, 4, 2, 2))
        times = []
        for _ in range(3):
            program.recompile()
            started = thread_time()
            assert len(program.groups) == blocks - 1
            times.append(thread_time() - started)
        return min(times)

    assert seconds(200) < 15 * seconds(20)
