"""Checks of any network: it traces, and under a random plan the slim program computes what the masked one does."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from swdc import Plan, Program, count, insert_batchnorm, mask, plan, slim, trace
from swdc.channels.kept import Kept
from swdc.errors import PlanError
from swdc.ir.differences import relative_error
from swdc.ir.graph import SHAPE
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.trace_options import FACTORS, POLICIES
from swdc.ops import calls
from swdc.sparsity.planning.budgets import BUDGETS, Budget
from tests.fuzzing.blocks import TABLE, Draw
from tests.fuzzing.network import AGAIN, STARTS, Spec, build
from tests.fuzzing.uses import USES, DifferenceError, Made, captured_within, certified, copies, same_outputs

PLANS = 2
"""Plans that are tried on each network."""
TRIES = 4
"""Plans drawn for a network until so many change the output."""


@dataclass
class Outcome:
    """The result of one network: ``exact``, ``frozen`` (nothing can go), ``no effect`` or ``failed`` at a stage."""

    spec: Spec
    result: str = "exact"
    stage: str = ""
    error: str = ""
    details: str = ""
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    removed: int = 0
    max_relative_error: float = 0.0
    operators: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    transplant: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """What makes two failures alike: the stage, and the kind of error."""
        return f"{self.stage}: {self.error.split(':')[0]}"


class Check:
    """The check of one network. ``kept`` gives the plan; else random ones are drawn from the seed of the network."""

    def __init__(self, spec: Spec, kept: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self.outcome = Outcome(spec)
        self._given = kept
        self._draw = self._random("plan")
        self._program: Program | None = None
        self._slim: Program | None = None
        self.made: Made | None = None
        self._normed = self._random("norms").flip(0.1)

    def run(self) -> Outcome:
        """Check everything, and return the outcome."""
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                self._all()
        except Exception as error:  # any error at any stage is a find
            self.outcome.result = "failed"
            self.outcome.error = f"{type(error).__name__}: {error}"
            self.outcome.details = "".join(traceback.format_exception(error)[-6:])
        return self.outcome

    def _random(self, purpose: str) -> Draw:
        """Return random choices that the seed of the network decides, whatever else was drawn."""
        return Draw(f"{self.outcome.spec.seed} {purpose}")

    def _all(self) -> None:
        with self._stage("build"):
            model, examples = build(self.outcome.spec)
        with self._stage("trace"):
            program = self._program = trace(model, examples, self._random("attention").choice(FACTORS))
        with self._stage("capture"):
            self._captured_alike(model, program)
        if self._normed:
            with self._stage("insert norms"):
                policy = self._random("policy").one_of(*POLICIES)
                program = self._program = insert_batchnorm(program).under(policy)
                self._captured_alike(model, program)
        with self._stage("analysis"):
            self.outcome.operators = tuple(sorted({call.operator for _, call in calls(program).values()}))
            program.explain()
        if not program.groups:
            self.outcome.result = "frozen"
            return
        effective = 0
        for _ in range(TRIES):
            effective += self._cut(model, program, self._kept(program))
            if effective == PLANS or self._given is not None:
                break
        self.outcome.result = "exact" if effective else "no effect"
        self._used()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.outcome.stage = name
        start = time.perf_counter()
        yield
        self.outcome.seconds[name] = self.outcome.seconds.get(name, 0.0) + time.perf_counter() - start

    def _captured_alike(self, model: torch.nn.Module, program: Program) -> None:
        for batch in (1, 3):
            args, _ = sample_inputs(program, batch, self._draw.torch_seed(), None)
            with torch.no_grad():
                error = relative_error(model(*copies(args)), program(*copies(args)))
            if error > captured_within(program):
                raise DifferenceError(f"the program is not the model at batch {batch}: relative error {error:.2e}")

    def _kept(self, program: Program) -> Plan:
        """Return a random plan: some of every group, one channel left, one group only, or what ``swdc.plan`` says."""
        draw, groups = self._draw, program.groups
        widths = {g.name: g.width for g in groups}
        if self._given is not None:
            kept = {name: self._given.get(name, tuple(range(width))) for name, width in widths.items()}
            return Plan(kept, widths, program.hash(), {})
        kind = draw.one_of("some", "some", "some", "one channel", "one group", "all but one", "planned")
        if kind == "planned" and (planned := _planned(program, draw)) is not None:
            return planned
        chosen = draw.choice(groups).name if kind in ("one group", "all but one") else ""
        kept = {}
        for name, width in widths.items():
            if (kind == "one group" and name != chosen) or (kind == "all but one" and name == chosen):
                number = width
            else:
                number = 1 if kind == "one channel" else draw.randint(1, max(1, width - 1))
            kept[name] = tuple(sorted(draw.sample(range(width), number)))
        return Plan(kept, widths, program.hash(), {})

    def _cut(self, model: torch.nn.Module, program: Program, chosen: Plan) -> bool:
        """Check one plan, and return whether its certificate is exact: it changes the output, and this shows."""
        self.outcome.kept = {name: tuple(k) for name, k in chosen.kept.items()}
        self.outcome.removed = chosen.removed_channels
        with self._stage("mask"):
            masked = mask(program, chosen)
        with self._stage("slim"):
            small = self._slim = slim(program, chosen)
        with self._stage("verify"):
            certificate = certified(masked, small, "under a random plan")
            self.outcome.max_relative_error = max(self.outcome.max_relative_error, certificate.max_relative_error)
        with self._stage("count"):
            _counted_alike(program, chosen, small)
        with self._stage("again"):
            self._slim_again(small)
        self.outcome.cut = _cut_operators(program, chosen)
        layouts = STARTS[self.outcome.spec.start]
        self.made = Made(model, layouts, program, masked, small, certificate, self._normed)
        return certificate.exact

    def _slim_again(self, small: Program) -> None:
        """A slim program is a program: cutting nothing changes nothing, cutting more is exact again."""
        widths = {g.name: g.width for g in small.groups}
        nothing = Plan({name: tuple(range(w)) for name, w in widths.items()}, widths, small.hash(), {})
        same_outputs(small, slim(small, nothing), "slimmed again with an empty plan")
        draw = self._random("again")
        if not widths or draw.flip(0.7):
            return
        kept = {n: tuple(sorted(draw.sample(range(w), draw.randint(1, w)))) for n, w in widths.items()}
        more = Plan(kept, widths, small.hash(), {})
        certified(mask(small, more), slim(small, more), "cut a second time", batches=(2,))

    def _used(self) -> None:
        """Do with some of the slim programs what users do."""
        assert self.made is not None
        for name, (chance, use) in USES.items():
            draw = self._random(name)
            if draw.flip(chance):
                with self._stage(name):
                    self.outcome.transplant = use(self.made, draw) or self.outcome.transplant

    def code(self) -> str:
        """Return the blocks, the graph of the traced network, and that of the slim one, for people to read."""
        lines = [f"{step.block} ({step.seed})" for step in self.outcome.spec.steps]
        for title, program in (("traced", self._program), ("slim", self._slim)):
            if program is not None:
                lines += ["", f"{title}:", *_nodes(program)]
        return "\n".join(lines)


def check(spec: Spec, kept: Mapping[str, tuple[int, ...]] | None = None) -> Outcome:
    """Check one network, under a given plan or under random ones."""
    return Check(spec, kept).run()


def families_of(spec: Spec) -> set[str]:
    """Return the families of the blocks of a network."""
    return {TABLE[step.block].family if step.block != AGAIN else "reuse" for step in spec.steps}


def _planned(program: Program, draw: Draw) -> Plan | None:
    budget, scope = draw.choice(list(BUDGETS)), draw.one_of("global", "group")
    try:
        return plan(program, draw.uniform(0.1, 0.6), budget=budget, scope=scope, criterion=draw.one_of("l1", "l2"))
    except PlanError:
        return None  # so small a network cannot lose this much


def _counted_alike(program: Program, chosen: Plan, small: Program) -> None:
    """The closed formula over the kept widths is what counting the slim program gives."""
    widths = np.array([len(chosen.kept[g.name]) for g in program.groups], dtype=np.int64)
    counted = count(small)
    for kind in ("parameters", "operations", "macs"):
        said, found = Budget(program, kind).cost(widths), getattr(counted, kind)
        if said != found:
            raise DifferenceError(f"expected {said} {kind} by the formula, got {found} by counting the slim program")


def _cut_operators(program: Program, chosen: Plan) -> tuple[str, ...]:
    """Return the operators of which an argument or the result lost channels."""
    kept = Kept(program.coupling, program.coupling.keep(chosen.kept))

    def loses(value: Any, rank: int) -> bool:
        masks = (kept.mask(value, dim) for dim in range(rank))
        return any(m is not None and not m.all() for m in masks)

    ranks = {name: t.dim() for name, t in program.tensors.items()}
    found = set()
    for _, call in calls(program).values():
        values = [(v, ranks[v] if isinstance(v, str) else _rank(program, v)) for v in call.tensors()]
        if any(loses(value, rank) for value, rank in values):
            found.add(call.operator)
    return tuple(sorted(found))


def _rank(program: Program, node: fx.Node) -> int:
    labels = program.coupling.nodes.get(node.name, ())
    flat = all(ids is None or isinstance(ids, np.ndarray) for ids in labels)
    return len(labels) if flat else 0


def _nodes(program: Program) -> list[str]:
    lines = []
    for node in program.graph.nodes:
        arguments = [str(a) for a in node.args] + [f"{k}={v}" for k, v in node.kwargs.items()]
        lines.append(f"{node.name} = {node.target}({', '.join(arguments)})  {node.meta.get(SHAPE, '')}")
    read = program.read_tensors()
    return [*lines, *(f"{name}: {tuple(t.shape)}" for name, t in program.tensors.items() if name in read)]
