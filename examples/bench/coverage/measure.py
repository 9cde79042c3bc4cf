"""Measuring one network, phase by phase: capture, analysis, plan, slim, certificate, ONNX, transplant."""

from __future__ import annotations

import copy
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from examples.bench.networks.catalogue import entry
from examples.bench.networks.entry import Entry, call
from examples.bench.networks.randomise import random_network
from examples.bench.running.apart import Report, out_of_memory
from examples.bench.running.row_files import KINDS
from swdc import Program, count, export_onnx, mask, plan, slim, trace, transplant, verify
from swdc.errors import ExportError, SwdcError, brief, portable
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.dtypes_and_devices import default_dtype
from swdc.ir.module_tensors import tensors_of
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.certificate import LEAST_EFFECT, TOLERANCE
from swdc.sparsity.planning.budgets import Budget

BATCHES = (1, 2, 5)
FLOAT32_TOLERANCE = 1e-3
RECORDED_SEEDS = 3
"""Draws of inputs that a recorded network is compared on."""
_MACHINE = re.compile(rf"[^\s(]*site-packages/|{re.escape(str(Path(__file__).parents[3]))}/")
"""What the names of files start with on this machine."""
LEAST_REDUCTION = {"core": 0.45, "torchvision": 0.4}
"""Share of the parameters that must go when half of the channels of each group do; 25 % elsewhere."""


def measure_by_name(report: Report, library: str, name: str, seed: int) -> None:
    """Measure a network of the catalogue, reporting after every phase."""
    torch.set_num_threads(1)  # in a process of its own, which ends with the measurement
    measure(report, entry(name, library), seed, LEAST_REDUCTION.get(library, 0.25))


def measure(report: Report, network: Entry, seed: int = 0, least: float = 0.25) -> None:
    """Measure a network, reporting after every phase what is known by then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _Measurement(report, least).run(network, seed)


class _Stop(Exception):  # noqa: N818 - not an error: there is no more to find out
    """A phase failed, so that the phases after it cannot run."""


@dataclass
class _Measurement:
    """The phases of one network, and what is not met so far."""

    report: Report
    least: float
    seconds: dict[str, float] = field(default_factory=dict)
    unmet: list[tuple[str, str]] = field(default_factory=list)

    def run(self, network: Entry, seed: int) -> None:
        """Go through the phases as far as possible."""
        with suppress(_Stop):
            self._run(network, seed)
        self._tell()

    def _run(self, network: Entry, seed: int) -> None:
        with self._phase("build", "build"):
            model, inputs = random_network(network, seed)
        with self._phase("capture", "capture"):
            program = trace(model, inputs)
        with self._phase("analysis", "surgery"):
            share = _prunable_share(program)
        self.report({"captured_by": program.facts.captured_by, "prunable_share": share})
        if not program.groups:
            self._fail("no groups", _why_frozen(program))
        with self._phase("plan", "surgery"):
            half = plan(program, 0.5, scope="group")
        with self._phase("slim", "surgery"):
            small = slim(program, half)
        self._count(program, small)
        with self._phase("verify", "surgery"):
            recorded = program.facts.example_only
            masked = mask(program, half)
            exact = self._compare(masked, small, model, network) if recorded else self._certify(masked, small)
        if recorded:
            self.report({"onnx": "not applicable"})
        elif exact:
            with self._phase("onnx", "onnx"):
                self._export(program, small)
            with self._phase("transplant", "transplant"):
                self._transplant(small, model)

    @contextmanager
    def _phase(self, name: str, kind: str) -> Iterator[None]:
        """Time a phase; an error raised in it counts as not met."""
        self.report({"phase": name})
        start = time.perf_counter()
        try:
            yield
        except _Stop:
            raise
        except Exception as error:  # a defect of ours as much as a model that cannot be had
            if out_of_memory(brief(error)):
                raise
            self._fail(kind, portable(str(error)) if isinstance(error, SwdcError) else brief(error))
        finally:
            self.seconds[name] = round(time.perf_counter() - start, 3)
            self._tell()

    def _fail(self, kind: str, reason: str) -> NoReturn:
        self.unmet.append((kind, reason))
        raise _Stop

    def _tell(self) -> None:
        kind = min((kind for kind, _ in self.unmet), key=KINDS.index, default="")
        reason = of_any_machine("; ".join(f"{kind}: {text}" for kind, text in self.unmet))
        self.report({"seconds": dict(self.seconds), "kind": kind, "reason": reason})

    def _count(self, program: Program, small: Program) -> None:
        before, after = count(program), count(small)
        reduction = 1 - after.parameters / max(before.parameters, 1)
        self.report({
            "parameters_before": before.parameters, "parameters_after": after.parameters, "reduction": reduction,
            "operations_before": before.operations, "operations_after": after.operations,
        })  # fmt: skip
        if reduction < self.least:
            self.unmet.append(("reduction", f"{reduction:.1%} of the parameters went, expected {self.least:.0%}"))

    def _certify(self, masked: Program, small: Program) -> bool:
        certificate = verify(masked, small, batches=BATCHES)
        error, effect = certificate.max_relative_error, certificate.effect
        self.report({"exact": certificate.exact, "max_relative_error": error, "effect": effect})
        if not certificate.exact:
            kind = "no effect" if error <= TOLERANCE and effect < LEAST_EFFECT else "not exact"
            why = [certificate.first_difference or "", *certificate.notes]
            self.unmet.append((kind, f"error {error:.1e}, effect {effect:.1e}; " + "; ".join(filter(None, why))))
        return certificate.exact

    def _compare(self, masked: Program, small: Program, model: nn.Module, network: Entry) -> bool:
        """Certify a recorded program, which stands for its example only, by the user's own class masked and slim."""
        try:
            mine = self._transplanted(small, model)
        except Exception as failure:  # of the user's class as much as of ours
            self._fail("transplant", brief(failure))
        errors, effects = [], []
        networks = [copy.deepcopy(model).double(), with_tensors(model, masked.tensors).double(), mine.double()]
        for seed in range(RECORDED_SEEDS):
            torch.manual_seed(seed)
            inputs = network.inputs()
            before, wanted, got = (outputs(each, inputs) for each in networks)
            errors.append(relative_error(wanted, got))
            effects.append(relative_error(before, wanted))
        error, effect = max(errors), min(effects)
        exact = error <= TOLERANCE and effect >= LEAST_EFFECT
        self.report({"exact": exact, "max_relative_error": error, "effect": effect, "transplant": "ok"})
        if not exact:
            kind = "not exact" if not error <= TOLERANCE else "no effect"
            self.unmet.append((kind, f"error {error:.1e}, effect {effect:.1e} between the masked and the slim module"))
        return exact

    def _export(self, program: Program, small: Program) -> None:
        try:
            error = _exported_error(small)
        except ExportError as failure:
            dense = _dense_failure(program)
            self.report({"onnx": f"dense export impossible: {dense}" if dense else f"error: {failure}"})
            if not dense:
                self.unmet.append(("onnx", str(failure)))
            return
        self.report({"onnx": "ok", "onnx_max_relative_error": error})

    def _transplanted(self, small: Program, model: nn.Module) -> nn.Module:
        """Transplant, and report what had to be replaced in the user's class."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mine = transplant(small, model)
        self.report({"transplant_notes": [str(c.message) for c in caught if issubclass(c.category, UserWarning)]})
        return mine

    def _transplant(self, small: Program, model: nn.Module) -> None:
        try:
            mine = self._transplanted(small, model)
            args, kwargs = sample_inputs(small, 2, 1, torch.float32)
            with torch.no_grad():
                error = relative_error(small.eval()(*args, **kwargs), mine.eval()(*args, **kwargs))
        except Exception as failure:  # an error of the user's class in its forward as well as one of ours
            found = f"error: {brief(failure)}"
        else:
            found = "ok" if error <= FLOAT32_TOLERANCE else f"error: differs by {error:.1e}"
        self.report({"transplant": found})
        if found != "ok":
            self.unmet.append(("transplant", found.removeprefix("error: ")))


def of_any_machine(text: str) -> str:
    """Return a text without the folders of this machine in the names of files."""
    return re.sub(_MACHINE, "", text)


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a model that holds the values of ``tensors`` where it has tensors of those names."""
    filled = copy.deepcopy(model)
    own = tensors_of(filled)
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])
    return filled


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return what a model in float64 computes in evaluation, on inputs in the form of an ``Entry``."""
    args, kwargs = call(_wide(inputs))
    with torch.no_grad(), default_dtype(torch.float64):
        return flat_outputs(model.eval()(*args, **kwargs))


def _wide(inputs: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)


def _prunable_share(program: Program) -> float:
    """Return the share of the parameters that can go when every group keeps one channel."""
    costs = Budget(program, "parameters")
    least = costs.cost(np.ones(len(program.groups), dtype=np.int64))
    return (costs.full - least) / max(costs.full, 1)


def _why_frozen(program: Program) -> str:
    counts: dict[str, int] = {}
    for frozen in program.frozen:
        counts[str(frozen.reason)] = counts.get(str(frozen.reason), 0) + len(frozen.indices)
    most = sorted(counts, key=lambda reason: -counts[reason])[:3]
    return "nothing can be removed" + "".join(f"; {reason}" for reason in most)


def _exported_error(program: Program) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.onnx"
        return export_onnx(program, path, batches=BATCHES, tolerance=FLOAT32_TOLERANCE).max_relative_error


def _dense_failure(program: Program) -> str | None:
    """Return why the dense program cannot be exported, ``None`` if it can."""
    try:
        _exported_error(program)
    except ExportError as error:
        return str(error)
    return None
