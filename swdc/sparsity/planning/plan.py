"""Making plans: scores and a budget in, kept channels out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.analysis.heads import HEADS, head_groups, no_heads
from swdc.costs.latency import LatencyTable, MeasuredTable
from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.groups import WRITES, ChannelGroup, Ids
from swdc.ir.module_tensors import need_whole
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.arguments import check_count
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.frozen import frozen_groups, frozen_parameters
from swdc.sparsity.planning.blocks import UNITS, BlockCriterion, plan_blocks
from swdc.sparsity.planning.budgets import BUDGETS, CHANNELS, Budget, Costs, NumberOfHeads, Terms, name_of_budget
from swdc.sparsity.planning.chooser import Chooser, sunk
from swdc.sparsity.planning.criteria import Criterion, Scores, called_with, find_criterion, numbers
from swdc.sparsity.planning.earlier import Earlier
from swdc.sparsity.planning.isomorphic import ranks
from swdc.sparsity.planning.latency import LATENCY, Latency
from swdc.sparsity.planning.parts import Parts, roles_of
from swdc.sparsity.planning.width_multiples import RoundTo, plain, units_of
from swdc.sparsity.planning.widths import (
    GLOBAL,
    ISOMORPHIC,
    SCOPES,
    check_share,
    sets_of,
    staying_of,
    widths_of_sets,
    widths_within,
)

BUDGET_NAMES = (*BUDGETS, LATENCY)
STRUCTURES = (CHANNELS, HEADS, *UNITS)
CUT, KEEP = "cut", "keep"


@checked(PlanError, on_cpu=True)
def plan(
    program: Program,
    sparsity: float | Mapping[str, float] = 0.5,
    budget: str | Terms = "channels",
    criterion: str | Criterion | BlockCriterion = "l2",
    scope: str = "global",
    round_to: RoundTo = 1,
    at_most: float | Mapping[str, float] = 1.0,
    even: bool = False,
    ignore: str | Iterable[str] = (),
    weights: Mapping[str, torch.Tensor] | None = None,
    policy: str | None = None,
    table: LatencyTable | None = None,
    frozen: str = CUT,
    statistics: Calibration | None = None,
    seed: int = 0,
    structure: str = CHANNELS,
    after: Plan | None = None,
) -> Plan:
    """Choose the channels to keep.

    ``sparsity`` is the share to remove, in [0, 1), of what ``budget`` counts: removable ``channels``, ``parameters``,
    ``bytes`` (of parameters and buffers as they are saved), ``operations`` (the paper's, for one sample), ``macs``
    (multiply-adds, for one sample), or ``latency``: the time in
    onnxruntime on one thread, for a batch as in the example inputs. A function in its place returns the terms of a sum
    of products of sizes (``swdc.sparsity.planning.budgets``). The plan removes the fewest channels that meet the
    budget. With the budget in channels ``sparsity`` may be a mapping from names of groups (or shell patterns) to
    shares: the groups of one pattern lose its share together, and groups that match none stay whole.
    ``criterion`` scores channels (``l2``, ``l1``, ``gamma``, ``gradient_weight``, ``uniform``, ``random`` or a
    function; see ``swdc.sparsity.planning.criteria``), or reads ``statistics`` from ``swdc.calibrate`` (``activation``,
    ``wanda``, ``taylor``, ``taylor_weight``, ``fisher``). ``seed`` is that of ``random``. ``weights`` gives the
    values to score, tensor by tensor, if the program has none itself (on the meta device) or has others: a
    ``swdc.Checkpoint``, or tensors by name.
    ``scope="global"`` compares all channels; ``"group"`` removes the same share of every group, which is ``sparsity``
    itself if the budget is in channels. ``"isomorphic"`` compares the channels of groups that play the same part in
    repeated blocks, and removes the same share of every such set of groups.
    ``round_to`` keeps the sizes of tensors at multiples of a number, if a group is wide enough. It is one number for
    all groups, or a mapping from names of groups (or shell patterns) to numbers; all other groups have 1. The cost
    stays within the budget and comes as near to it as whole units allow.
    ``at_most`` is the largest share of its channels that a group may lose, for all groups or as a mapping.
    ``even=True`` gives groups that play the same part in repeated blocks the same width, because many configurations
    (those of transformers) have one number for all blocks. Channels are then compared by their mean score over these
    groups. Such groups are found by their tensors' shapes and by the operators that read these, not by names; groups
    with other settings are apart.
    ``structure="heads"`` removes whole heads of attentions, and nothing else; ``budget`` may then be ``heads``, their
    number. Queries that share keys and values go with these.
    ``structure="blocks"`` removes whole residual branches: what a sum adds to a stream that the branch has read.
    ``structure="layers"`` removes numbered modules that hold nothing else. For both, ``budget`` is the structure,
    ``parameters``, ``bytes``, ``operations`` or ``macs``, ``ignore`` names what stays (a branch by the layer that
    writes it), and ``criterion`` is ``influence``, which reads ``statistics``, or a function of the program, the
    names and the statistics.
    ``after`` is an earlier plan of the same program. The new plan removes what it removes, and more, so that one plan
    can take whole branches, then heads, then channels, each by a criterion of its own. ``sparsity`` is then the share
    that both remove together; shares by groups are of the groups that are left. A criterion that reads weights sees
    none of the branches that are gone.
    ``policy`` says whether the sides of residual sums are ``tied`` or ``free`` (see ``swdc.trace``); by default it is
    that of the program.
    ``ignore`` names modules or tensors (shell patterns) whose output channels all stay. Every group keeps at least one
    channel. ``frozen`` says what happens to parameters that require no gradient, and to norms in evaluation in a
    program that trains: ``"cut"`` treats them like all others; with ``"keep"`` all channels stay that they write or
    read.

    With ``budget="latency"`` layers are measured at some widths, once on each machine (one or two minutes for a large
    network). The channels that lose the least score for the time that they save are removed; channels that save no time
    stay. ``table`` gives other times than those measured on this machine. The settings of the plan hold
    ``predicted_ms_before`` and ``predicted_ms``, in milliseconds.

    Raises ``PlanError`` for arguments out of range, a pattern that matches nothing, or a budget that cannot be met.

    Example::

        plan = swdc.plan(program, sparsity=0.5, budget="parameters", round_to=2)
    """
    if structure not in STRUCTURES:
        raise PlanError(f"expected a structure of {list(STRUCTURES)}, got {structure!r}")
    if statistics is not None:
        statistics.check(program)
    name = name_of_budget(budget)
    if structure in UNITS:
        need_whole(program, PlanError, "a plan")
        names = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        program = _under(program, policy, after)
        earlier = Earlier(program, after)
        return plan_blocks(program, sparsity, name, criterion, statistics, names, structure, earlier)
    _check(sparsity, scope, budget, structure)
    check_count("seed", seed, least=0)
    need_whole(program, PlanError, "a plan")
    program = _under(program, policy, after)
    earlier = Earlier(program, after)
    patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    groups = program.groups
    if frozen not in (CUT, KEEP):
        raise PlanError(f"expected frozen as {CUT!r} or {KEEP!r}, got {frozen!r}")
    still = frozen_groups(program, frozen_parameters(program)) if frozen == KEEP else set()
    still |= ignored_groups(program, patterns) | _others(program, structure) | earlier.lost
    scores = scored(program, earlier.groups, criterion, still, weights, statistics, seed)
    units, staying = units_of(groups, round_to), staying_of(groups, at_most)
    sets = sets_of(groups, sparsity, name) if isinstance(sparsity, Mapping) else np.zeros_like(units)
    compared = ranks(scores, roles_of(program)) if scope == ISOMORPHIC else scores
    alike, gone = _alike(program, even, scope), earlier.gone()
    lost = np.array([out.sum() for out in gone])
    parts = Parts.from_keys(zip(alike, units, staying, sets, lost.tolist(), [s is None for s in scores], strict=True))
    some = parts.firsts
    ranked = parts.scores(sunk(compared, gone))  # the best first, and last what is gone
    sunken = [np.arange(groups[i].width) >= groups[i].width - lost[i] for i in some]
    chooser = Chooser([groups[i] for i in some], ranked, units[some], staying[some], sunken)
    settings: dict[str, Any] = {
        "sparsity": dict(sparsity) if isinstance(sparsity, Mapping) else sparsity, "budget": name,
        "scope": scope,
        "ignore": list(patterns),
        "round_to": plain(round_to),
        "at_most": dict(at_most) if isinstance(at_most, Mapping) else at_most, "even": even,
        "policy": program.facts.policy, "frozen": frozen,
        "criterion": criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "function"),
        "seed": seed, **({} if structure == CHANNELS else {"structure": structure}), **earlier.settings,
    }  # fmt: skip
    scope = GLOBAL if scope == ISOMORPHIC else scope
    if isinstance(sparsity, Mapping):
        counts = parts.counts * [groups[i].name not in earlier.lost for i in some]
        widths = widths_of_sets(chooser, sets[some], counts, scope, tuple(sparsity.values()))
    else:
        costs = parts.costs(earlier.costs(partial(costs_of, program, budget, parts.spread(chooser.least), table)))
        widths = widths_within(chooser, costs, scope, sparsity)
        if budget == LATENCY:
            settings |= {"predicted_ms_before": costs.full, "predicted_ms": costs.cost(widths)}
    return Chooser(groups, scores, gone=earlier.removed()).plan(parts.spread(widths), program, settings)


def _check(sparsity: float | Mapping[str, float], scope: str, budget: str | Terms, structure: str) -> None:
    if not isinstance(sparsity, Mapping):
        check_share("sparsity", sparsity)
    if scope not in SCOPES:
        raise PlanError(f"expected a scope of {list(SCOPES)}, got {scope!r}")
    known = (*BUDGET_NAMES, *([HEADS] if structure == HEADS else []))
    if isinstance(budget, str) and budget not in known:
        raise PlanError(f"expected a budget of {list(known)}, got {budget!r}")


def _others(program: Program, structure: str) -> set[str]:
    """Return the names of the groups that a structure leaves whole; ``PlanError`` if it has no groups."""
    if structure != HEADS:
        return set()
    heads = head_groups(program)
    if not heads:
        raise PlanError(no_heads(program))
    return {group.name for group in program.groups} - heads


def _under(program: Program, policy: str | None, after: Plan | None) -> Program:
    """Return a program under a policy, if none is given under that of an earlier plan."""
    return program.under(after.policy if policy is None and after is not None else policy)


def costs_of(
    program: Program, budget: str | Terms, least: Ids, table: LatencyTable | None, left: Program | None = None
) -> Costs:
    """Return what a budget is a share of; ``least`` gives the smallest widths that a plan may have.

    ``left`` is the program without some of its branches, to which the cost is then confined.
    """
    part = program if left is None else left
    if budget == HEADS:
        heads = head_groups(program)
        return NumberOfHeads(program, [number for number, group in enumerate(program.groups) if group.name in heads])
    if budget != LATENCY:
        return Budget(part, budget, program.coupling)
    return Latency(part, MeasuredTable() if table is None else table, least, program.coupling)


def _alike(program: Program, even: bool, scope: str) -> Sequence[Hashable]:
    """Return a key for each group; groups with equal keys keep the same width."""
    if even:
        return roles_of(program)
    return [group.width if scope == "group" else number for number, group in enumerate(program.groups)]


def ignored_groups(program: Program, patterns: Sequence[str]) -> set[str]:
    """Return the names of the groups that a module or tensor writes whose name matches one of ``patterns``."""
    ignored: set[str] = set()
    for pattern in patterns:
        matching = matching_names(program, pattern)
        for group in program.groups:
            if any(is_below(m.tensor, matching) for m in group.with_role(WRITES)):
                ignored.add(group.name)
    return ignored


def matching_names(model: nn.Module, pattern: str) -> set[str]:
    """Return the names of modules and tensors that match a shell pattern; ``PlanError`` if there are none."""
    tensors = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    names = {path for path, _ in model.named_modules() if path} | set(tensors)
    matching = {name for name in names if fnmatchcase(name, pattern)}
    if not matching:
        raise PlanError(
            f"expected ignore patterns that match a module or tensor, but {pattern!r} matches none; names look like "
            f"{', '.join(sorted(names)[:3])}"
        )
    return matching


def is_below(tensor: str, paths: set[str]) -> bool:
    """Whether a tensor is one of ``paths`` or lies in a module that is one of them."""
    parts = tensor.split(".")
    return any(".".join(parts[: n + 1]) in paths for n in range(len(parts)))


def scored(
    program: Program,
    groups: Sequence[ChannelGroup],
    criterion: str | Criterion,
    ignored: set[str],
    weights: Mapping[str, torch.Tensor] | None = None,
    statistics: Calibration | None = None,
    seed: int = 0,
) -> Scores:
    """Return the scores of all groups, ``None`` for those that stay whole; ``PlanError`` if no group has scores."""
    candidates = [g for g in groups if g.name not in ignored]
    if not candidates:
        raise PlanError("expected at least one group of removable channels; program.explain() says what is frozen")
    extra = () if weights is None else (weights,)
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", type(criterion).__name__)
    expected = f"a criterion that takes a program and groups and returns the scores of each, got {name!r}"
    function = find_criterion(criterion)
    asked = called_with(function, name, statistics, seed)
    with told_as(PlanError, expected, "see swdc.sparsity.planning.criteria for examples"):
        given = [None if s is None else numbers(s) for s in function(program, candidates, *extra, **asked)]
    if len(given) != len(candidates):
        raise PlanError(f"expected scores for each of {len(candidates)} groups, got {len(given)}; None keeps a group")
    found = dict(zip((g.name for g in candidates), given, strict=True))
    scores = [found.get(g.name) for g in groups]
    if all(s is None for s in scores):
        raise PlanError(
            f"expected groups that the criterion {name!r} can score, but there is none; for a network without "
            f"batch norms take criterion='l2', or add batch norms with swdc.insert_batchnorm"
        )
    for group, values in zip(groups, scores, strict=True):
        if values is not None and (np.shape(values) != (group.width,) or not np.isfinite(values).all()):
            raise PlanError(
                f"expected {group.width} finite scores for group {group.name!r}, got shape {np.shape(values)} "
                f"with {int((~np.isfinite(values)).sum())} that are not finite; return one number for each channel, "
                "or None to keep the group whole"
            )
    return [None if s is None else s.astype(np.float64) for s in scores]  # negating unsigned integers would wrap
