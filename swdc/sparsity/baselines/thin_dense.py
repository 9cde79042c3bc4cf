"""A thin dense network: how good a network of the same cost is without pruning."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.module_tensors import cuda_devices, need_values
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.ir.trace_options import TIED
from swdc.rewriting.pass_base import find_pass
from swdc.rewriting.pipeline import apply, run
from swdc.sparsity.planning.plan import plan
from swdc.sparsity.planning.width_multiples import RoundTo


@checked(PlanError)
def thin(
    program: Program, sparsity: float, budget: str = "parameters", *, round_to: RoundTo = 1,
    ignore: str | Iterable[str] = (), seed: int = 0,
) -> Program:  # fmt: skip
    """Return a dense network of the same architecture that costs less, newly initialised, to be trained from scratch.

    Every group of channels loses the same share: the smallest one that lowers ``budget`` by ``sparsity``. The other
    arguments are those of ``swdc.plan``; residual sums are ``tied``. The given program and the generators of random
    numbers stay as they are.

    Modules initialise themselves, in the order of the graph, as a new module of their size does (``reset_parameters``:
    norms start at gain 1 and bias 0, with fresh running statistics). Parameters that belong to no such module (class
    tokens, embeddings of positions, layer scales) are drawn from a normal distribution. Its mean and deviation are
    those of the parameter in the given program, so that a constant parameter stays constant. Other buffers keep their
    values.

    Raises ``PlanError`` as ``swdc.plan`` does, and for a program on the meta device.
    """
    need_values(program, PlanError, "initialising a network like it")
    program = program.under(TIED)
    uniform = plan(program, sparsity, budget, "uniform", "group", round_to=round_to, ignore=ignore)
    # nothing is folded into biases, because the old weights do not matter
    cut = run(program, [find_pass("eliminate-dead-channels")(plan=uniform)]).program  # type: ignore[call-arg]
    result = apply(cut, "relax-norms")
    result = result.with_facts(origin=None, notes=program.facts.notes)
    _initialise(result, program, seed)
    return result


@torch.no_grad()
def _initialise(thin: Program, like: Program, seed: int) -> None:
    tensors = like.tensors
    with torch.random.fork_rng(cuda_devices(like)):
        seed_all(seed)
        done: set[int] = set()
        for module in thin.leaves.values():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
                done |= {id(p) for p in module.parameters(recurse=False)}
        for name, parameter in thin.named_parameters():
            if id(parameter) not in done and parameter.is_floating_point():
                deviation, mean = torch.std_mean(tensors[name], correction=0)
                parameter.normal_().mul_(deviation).add_(mean)
