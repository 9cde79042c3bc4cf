"""Public functions, each with arguments that work, and what each of its parameters takes."""

from __future__ import annotations

import copy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import swdc
from swdc import ops
from swdc.artifacts.folder.save import load_certificate
from swdc.artifacts.onnx.runtime import latencies_ms, latency_ms, run_onnx
from swdc.sparsity import baselines
from swdc.sparsity.penalties.norms import L1
from swdc.sparsity.planning.criteria import uniform
from tests.bad_arguments.searches import searches
from tests.bad_arguments.targets import Target
from tests.bad_arguments.values import AMOUNT, COUNT, FLAG, FUNCTIONS, NONE, POSITIVE, SHARE, TEXT, Takes, Word


class Prepared:
    """Programs, plans and files that calls read; the files are made in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.x = folder, torch.randn(2, 4)
        self.model = _model()
        self.program = swdc.trace(self.model, self.x)
        self.other = swdc.trace(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), torch.randn(2, 5))
        self.plan = swdc.plan(self.program, 0.5)
        self.masked, self.slim = swdc.mask(self.program, self.plan), swdc.slim(self.program, self.plan)
        self.certificate = swdc.verify(self.masked, self.slim)
        self.saved = swdc.save(self.slim, folder / "saved", self.certificate)
        self.file = swdc.export_onnx(self.program, folder / "net.onnx").path
        self.statistics = swdc.calibrate(self.program, [self.x], moments=True)
        self.weights = {name: t.detach() for name, t in self.program.tensors.items()}
        with torch.device("meta"):
            self.empty = swdc.trace(_model(), torch.randn(2, 4))
        self.optimizer = torch.optim.SGD(self.program.parameters(), 0.1)
        other = self.other.facts.example[0][0]
        self.made = {"other program": self.other, "other plan": swdc.plan(self.other, 0.5), "other inputs": other}
        self.made |= {"other optimizer": torch.optim.SGD(self.other.parameters(), 0.1)}

    def targets(self) -> list[Target]:
        """Return all functions."""
        rewriting, files, programs = self._rewriting(), self._files(), self._programs()
        return [*rewriting, *files, *programs, *self._methods(), *self._data(), *searches(self), *_trainers()]

    def _rewriting(self) -> list[Target]:
        program, plan, x = self.program, self.plan, self.x
        batches = Takes(("(1, 2)",), ([np.int64(1)], range(1, 3), torch.Size([2])), ((0,), (-1,), [10**12], [2**70]))
        whole = Takes(("other program",), (program, self.masked, self.slim))
        cut = {"program": Takes(good=(program, self.masked), bad=(self.slim,)), "plan": Takes(good=(plan,))}
        ignore = Takes(("()",), ("3", ["3"], {"3"}, iter(["3"])), ("none",))
        return [
            Target(
                "trace", swdc.trace,
                {
                    "model": Takes(("no layers",), (self.model, program, nn.Identity()), (nn.LazyLinear(3),)),
                    "example_inputs": Takes(good=(x, (x,), [x], {"input": x}), bad=({"y": x}, (x, x), x.to("meta"))),
                    "attention": Takes(good=("heads", "head_dim", Word.HEADS)),
                    "policy": Takes(good=("tied", "free")),
                    "check": Takes(FLAG),
                    "dynamic": Takes((*NONE, "()"), (["batch"],), (["no"], "batch", {"batch"})),
                },
                {"model": self.model, "example_inputs": x},
            ),
            Target(
                "count", swdc.count,
                {
                    "program": Takes(("other program",), (program, self.masked, self.slim, self.empty)),
                    "convention": Takes(good=("paper", "reference", "macs")), "batch": Takes((*POSITIVE, *NONE)),
                    "sizes": Takes((*NONE, "{}"), ({"batch": np.int64(2)},), ({"batch": 0}, {"no": 3}, {"batch": 0.5})),
                },
                {"program": program},
            ),
            Target(
                "plan", _saved_plan,
                {
                    "program": whole,
                    "sparsity": Takes((*SHARE, "0"), (0.25, {"0": 0.5}), (2, {"0": 2}, {"no": 0.5}, {"0": "a"})),
                    "at_most": Takes((*AMOUNT[:-1], "{}"), ({"0": 0.75},), (2, {"0": 2}, {"no": 0.5})),
                    "even": Takes(FLAG),
                    "frozen": Takes(good=("cut", "keep")),
                    "budget": Takes(good=("channels", "parameters", "operations", "macs")),
                    "criterion": Takes(good=("l2", "l1", "gamma", "uniform", uniform), bad=(lambda *_: None,)),
                    "scope": Takes(good=("global", "group", "isomorphic")),
                    "statistics": Takes(NONE, (self.statistics,)),
                    "seed": Takes(COUNT, (2**40,)),
                    "structure": Takes(good=("channels",), bad=("blocks", "layers", "heads")),
                    "round_to": Takes((*POSITIVE, "{}"), (4, {"*": np.int64(2)}), (-8, {"*": 0}, {"*": 2.5})),
                    "ignore": ignore,
                    "weights": Takes((*NONE, "{}"), (self.weights,), ({"0.weight": torch.ones(3)}, {"no": x})),
                    "policy": Takes(NONE, ("tied", "free")),
                    "table": Takes(NONE),
                    "after": Takes(NONE, (self.plan,), (self.made["other plan"],)),
                },
                {"program": program},
            ),
            Target(
                "calibrate", swdc.calibrate,
                {
                    "program": Takes(good=(program, self.masked, self.slim), bad=(self.empty,)),
                    "batches": Takes(good=([x], iter([x]), [(x,)], ({"input": x},)), bad=(x, [], [torch.ones(2, 5)])),
                    "inputs": Takes(NONE, (lambda batch: batch,), unjudged=("len", "int", "module", "no layers")),
                    "loss": Takes(NONE, (lambda output, _: output.sum(),), (lambda *_: None,)),
                    "moments": Takes((*FLAG, "()"), (["3.weight"],), (["no"], "3.weight")),
                    "progress": Takes(FLAG),
                },
                {"program": program, "batches": [x]},
            ),
            Target(
                "refit", swdc.refit,
                {
                    "slim": Takes(good=(self.slim,), bad=(program, self.masked)),
                    "masked": Takes(good=(self.masked,), bad=(program, self.slim)),
                    "statistics": Takes(good=(self.statistics,)),
                    "batches": Takes(NONE, ([x], iter([x])), (x, [], [torch.ones(2, 5)])),
                    "inputs": Takes(NONE, (), (lambda batch: batch,)),
                    "progress": Takes(FLAG),
                },
                {"slim": self.slim, "masked": self.masked, "statistics": self.statistics},
            ),
            Target(
                "slim_optimizer", swdc.slim_optimizer,
                {
                    "optimizer": Takes(good=(self.optimizer,)),
                    "program": Takes(good=(program,), bad=(self.slim, self.empty)),
                    "slim": Takes(good=(self.slim,), bad=(program, self.masked)),
                },
                {"optimizer": self.optimizer, "program": program, "slim": self.slim},
            ),
            Target("mask", swdc.mask, cut, {"program": program, "plan": plan}),
            Target("slim", swdc.slim, cut, {"program": program, "plan": plan}),
            Target("insert_batchnorm", swdc.insert_batchnorm, {"program": whole}),
            Target("relax_norms", swdc.relax_norms, {"program": whole}),
            Target(
                "deploy", swdc.deploy,
                {"program": whole, "outputs": Takes(NONE, ([0], (np.int64(0),), "output", ["output"]), ([7], ["no"]))},
                {"program": self.slim},
            ),
            Target(
                "verify", swdc.verify,
                {
                    "masked": Takes(good=(self.masked,), bad=(program, self.slim)),
                    "slim": Takes(good=(self.slim,), bad=(program, self.masked)),
                    "batches": batches,
                    "seed": Takes(COUNT, (2**40,), (2**64,)),
                    "inputs": Takes(NONE, (x, (x,)), (torch.ones(2, 5), torch.ones(2, 4, 1), x.to("meta"))),
                },
                {"masked": self.masked, "slim": self.slim, "batches": (1,)},
            ),
            Target(
                "transplant", swdc.transplant,
                {"slim": Takes(good=(self.slim,), bad=(program, self.masked)), "model": Takes(good=(self.model,))},
                {"slim": self.slim, "model": self.model},
            ),
            Target(
                "thin", baselines.thin,
                {
                    "program": whole, "sparsity": Takes((*SHARE, "0"), (0.25,), (2,)),
                    "budget": Takes(good=("channels", "parameters", "operations", "macs")),
                    "round_to": Takes((*POSITIVE, "{}"), (2, {"*": np.int64(2)}), (-8, {"*": 0}, {"*": 2.5})),
                    "ignore": ignore, "seed": Takes((*COUNT, "-1"), (2**40,), (2**64,)),
                },
                {"program": program, "sparsity": 0.5},
            ),
            Target(
                "export", swdc.export,
                {
                    "program": whole,
                    "path": Takes((), (self.folder / "again.pt2",), (self.folder, self.folder / "again.onnx")),
                    "batches": batches,
                    "tolerance": Takes((*AMOUNT, *NONE), (), (-1.0, 0.0)),
                    "deploy": Takes(FLAG),
                    "certificate": Takes(NONE, (), (self.certificate,)),
                },
                {"program": program, "path": self.folder / "again.pt2", "batches": (1,)},
            ),
            Target(
                "export_onnx", swdc.export_onnx,
                {
                    "program": whole,
                    "path": Takes(TEXT, (self.folder / "again.onnx",), (self.folder,)),
                    "opset": Takes(NONE, (), (-2, 10**6)),
                    "batches": batches,
                    "tolerance": Takes((*AMOUNT,), (), (-1.0, 0.0)),
                    "deploy": Takes(FLAG),
                    "certificate": Takes(NONE, (), (self.certificate,)),
                },
                {"program": program, "path": self.folder / "again.onnx", "batches": (1,)},
            ),
        ]  # fmt: skip

    def _files(self) -> list[Target]:
        x, file, saved = self.x, self.file, self.saved
        folder = Takes(good=(saved, str(saved)), bad=(self.folder / "none", file))
        net = Takes(good=(file, str(file)), bad=(self.folder, self.folder / "none"))
        inputs = Takes(good=(x, (x,), {"input_1": x}, x.numpy()), bad=(x.to("meta"), x.to_sparse(), x.int()))
        runs, threads = Takes(POSITIVE), Takes(COUNT, (2,), (10**6,))
        checkpoint = swdc.Checkpoint(saved)
        where = {"program": self.empty, "plan": swdc.plan(self.empty, 0.5, weights=self.weights)}
        return [
            Target(
                "save", swdc.save,
                {
                    "program": Takes(("other program",), (self.program, self.masked, self.slim), (self.empty,)),
                    "path": Takes(TEXT, (self.folder / "again",), (file,)),
                    "certificate": Takes(NONE, (self.certificate,)),
                    "model": Takes(NONE, (self.model,), (nn.Linear(2, 2), self.empty)),
                },
                {"program": self.slim, "path": self.folder / "again"},
            ),
            Target(
                "report", swdc.report,
                {
                    "path": Takes((), (self.folder / "page.html",), (self.folder, self.folder / "page.txt")),
                    "program": Takes(good=(self.program,), bad=(self.slim,)),
                    "slim": Takes(good=(self.slim,), bad=(self.program, self.masked)),
                    "certificate": Takes(NONE, (self.certificate,)),
                    "deployed": Takes(NONE, (swdc.deploy(self.slim),), (self.program,)),
                    "onnx": Takes(NONE),
                    "measured": Takes((*NONE, "{}"), ({"ms": (1, 2.5)},), ({"ms": (1,)}, {"ms": "ab"}, {3: (1, 2)})),
                    "sweep": Takes(NONE, (), ({"cells": []},)),
                    "compression": Takes(NONE, (), ({"trials": []},)),
                    "title": Takes((*TEXT, "''", "a long name", *NONE)),
                },
                {"path": self.folder / "page.html", "program": self.program, "slim": self.slim},
            ),
            Target(
                "load_into", _loaded_into, {"model": Takes(good=(_model(),), bad=(self.empty,)), "path": folder},
                {"model": _model(), "path": saved},
            ),
            Target(
                "save_pretrained", swdc.save_pretrained,
                {
                    "slim": Takes(bad=(self.slim,)), "model": Takes(bad=(self.model,)), "folder": Takes(),
                    "tokenizer": Takes(), "shard_size": Takes(),
                },
                {"slim": self.slim, "model": self.model, "folder": self.folder / "checkpoint"},
            ),
            Target("load", swdc.load, {"path": folder}),
            Target("load_certificate", load_certificate, {"path": folder}),
            Target("run_onnx", run_onnx, {"path": net, "program_inputs": inputs}, {"path": file, "program_inputs": x}),
            Target(
                "latency_ms", latency_ms, {"path": net, "inputs": inputs, "runs": runs, "threads": threads},
                {"path": file, "inputs": x, "runs": 1},
            ),
            Target(
                "latencies_ms", latencies_ms,
                {"paths": Takes(good=([file], (str(file),))), "inputs": inputs, "runs": runs, "threads": threads},
                {"paths": [file], "inputs": x, "runs": 1},
            ),
            Target(
                "quantize_onnx", swdc.quantize_onnx,
                {
                    "path": net, "batches": Takes(good=([x], (x.numpy(),)), bad=([], [torch.zeros(2, 9)])),
                    "out": Takes(TEXT, (self.folder / "int8.onnx",), (self.folder,)),
                    "metric": Takes(NONE, (lambda run: 1.0,), (lambda run: None,)),
                    "most_drop": Takes(("0", *AMOUNT)), "keep": Takes(("()",), bad=("none", ["none"])),
                    "calibration": Takes(good=("minmax", "entropy", "percentile")),
                    "reduce_range": Takes((*NONE, *FLAG), (False,)),
                    "state": Takes(NONE, (self.folder / "state",), (file,), unjudged=TEXT),
                },
                {"path": file, "batches": [x], "out": self.folder / "int8.onnx", "metric": lambda run: 1.0},
            ),
            Target(
                "slim_checkpoint", swdc.slim_checkpoint,
                {
                    "program": Takes(good=(self.empty,), bad=(self.program, self.slim)),
                    "plan": Takes(good=(where["plan"], self.plan)),
                    "weights": Takes(good=(self.weights,), bad=({"0.weight": torch.ones(3)},)),
                    "path": Takes(TEXT, (self.folder / "streamed",), (file,)),
                    "shard_bytes": Takes((*POSITIVE,), (2**40,), (-5,)),
                    "announce": Takes(("len", "no layers"), unjudged=("int", "module", "nn.Linear", "other program")),
                },
                {**where, "weights": self.weights, "path": self.folder / "streamed"},
            ),
            Target(
                "trace_skeleton", swdc.trace_skeleton,
                {
                    "make": Takes(good=(_model,), bad=(lambda: 3, lambda: 1 / 0)),
                    "example_inputs": Takes(good=(x, (x,)), bad=((x, x),)),
                    "weights": Takes(("{}",), (self.weights, checkpoint)),
                    "attention": Takes(good=("heads", "head_dim")),
                },
                {"make": _model, "example_inputs": x, "weights": self.weights},
            ),
            Target("Checkpoint", swdc.Checkpoint, {"path": folder}),
            Target("Checkpoint.entry", checkpoint.entry, {"name": Takes(good=("0.weight",))}),
            Target("Checkpoint.shape", checkpoint.shape, {"name": Takes(good=("0.weight",))}),
            Target(
                "Checkpoint.rows", checkpoint.rows,
                {
                    "name": Takes(good=("0.weight",)),
                    "rows": Takes(good=(np.arange(2), np.array([], int)), bad=(np.array([99]), np.array([-1]), [0])),
                },
                {"name": "0.weight", "rows": np.arange(1)},
            ),
        ]  # fmt: skip

    def _programs(self) -> list[Target]:
        program, x = self.program, self.x
        bad = (x[0], [x, x], torch.ones(2, 5), x.bool(), x.double(), x.numpy())
        every = Takes(("other program",), (program, self.masked, self.slim, self.empty))
        parts = {"graph": program.graph, "tensors": program.tensors, "leaves": program.leaves, "facts": program.facts}
        names = [type("Bad", (swdc.Operator,), {"names": value}) for value in ("aten.relu.default", (1,), None)]
        return [
            Target("Program()", lambda x: program(x), {"x": Takes(good=(x, x[:1]), bad=bad)}),
            Target(
                "clone", program.clone,
                {"dtype": Takes((*NONE, "torch.float16"), (torch.float64,), (torch.complex64, torch.bool))},
            ),
            Target("under", program.under, {"policy": Takes(NONE, ("tied", "free"))}),
            Target("follow_modes", program.follow_modes, {"model": Takes(("module", "no layers", "other program"))}),
            Target("with_facts", lambda policy: program.with_facts(policy=policy), {"policy": Takes(good=("free",))}),
            Target(
                "rebuilt", program.rebuilt,
                {
                    "graph": Takes(NONE, (program.graph,)), "tensors": Takes((*NONE, "{}"), (program.tensors,)),
                    "leaves": Takes((*NONE, "{}"), (program.leaves,)), "facts": Takes(NONE, (program.facts,)),
                },
            ),
            Target(
                "Program", swdc.Program,
                {
                    "graph": Takes(good=(program.graph,)), "tensors": Takes(("{}",), (program.tensors,)),
                    "leaves": Takes(("{}",), (program.leaves,)), "facts": Takes(good=(program.facts,)),
                    "transient": Takes(("()", "['a']")),
                    "analyse": Takes((*FUNCTIONS, "module", "no layers", "other program")),
                },
                {**parts, "analyse": program._analyse},
            ),
            Target(
                "register", swdc.register,
                {"cls": Takes(good=(type("Known", (swdc.Operator,), {"names": ("none.such.default",)}),), bad=names)},
            ),
            Target("calls", ops.calls, {"program": every}),
            Target(
                "shapes_of", ops.shapes_of, {"program": every, "sizes": Takes(("{}", "{'a': 1}"))},
                {"program": program, "sizes": {}},
            ),
            Target("leaf_of", ops.leaf_of, {"module": Takes(("module",), (nn.BatchNorm1d(2),), (program,))}),
        ]  # fmt: skip

    def _methods(self) -> list[Target]:
        program = self.program
        model = Takes(("other program",), (program, self.masked, self.slim), (self.empty,))
        mine = Takes(good=(program,), bad=(self.empty,))
        target, amount = Takes(SHARE, (0.25,), (1.5,)), Takes(AMOUNT)
        norm = Takes(good=("l1", "l2", "smooth_l1", L1))
        given = ({"3"}, "3", ["3"], iter(["3"]))
        ignore = Takes(("()",), given, ("none",))
        optimizer = Takes(good=(self.optimizer,))
        swd = {
            "model": model, "target": target, "structure": Takes(good=("channels", "filters", "weights")),
            "a_min": amount, "a_max": amount, "a": Takes(NONE), "steps": Takes(POSITIVE), "mu": Takes((*NONE, *AMOUNT)),
            "penalty": Takes(good=("gradient",)), "schedule": Takes(good=("linear", lambda *_: 1.0)),
            "norm": Takes(("no layers",), ("l1", L1, torch.square)), "criterion": Takes(good=("movement",)),
            "refresh": Takes(POSITIVE), "optimizer": Takes(NONE, (self.optimizer,)), "ignore": ignore,
        }  # fmt: skip
        plain = {
            "model": mine, "target": target, "steps": Takes(POSITIVE), "optimizer": optimizer, "ignore": ignore,
            "budget": Takes(NONE, ("channels", "parameters", "operations", "macs")), "table": Takes(NONE),
            "round_to": Takes((*POSITIVE, "{}"), ({"*": np.int64(2)},), (-8, {"*": 0}, {"*": 2.5})),
        }  # fmt: skip
        bounds: dict[str, Any] = {"model": program, "target": 0.5, "a_min": 1.0, "a_max": 2.0, "steps": 4}
        trained = {"model": program, "target": 0.5, "steps": 4, "optimizer": self.optimizer}
        start = Takes((*COUNT,), (4,), (99,))
        made = swdc.SWD(**bounds)
        state = made.state_dict()
        wrong = (
            {**state, "s": -1},
            {**state, "s": True},
            {**state, "chosen": {"none": torch.ones(2)}},
            {**state, "s": 1.5},
        )
        called = ("module", "nn.Linear", "len", "no layers", "other program")
        return [
            Target("SWD", partial(_stepped, swdc.SWD), swd, bounds),
            Target("SWD.gap", made.gap, {"metric": Takes(("int",), (lambda: torch.tensor(1.0),), unjudged=called)}),
            Target("SWD.load_state_dict", made.load_state_dict, {"state": Takes(good=(state,), bad=wrong)}),
            Target("UniformDecay", partial(_stepped, baselines.UniformDecay), swd, bounds),
            Target(
                "GrowingL2", baselines.GrowingL2,
                {
                    **plain, "structure": Takes(good=("channels", "weights")), "start": Takes(COUNT, (), (99,)),
                    "delta": amount, "every": Takes(POSITIVE), "ceiling": Takes((*POSITIVE, *SHARE, "1.0")),
                    "stabilize": Takes(COUNT, (), (99,)), "steps": Takes(POSITIVE),
                },
                {**trained, "start": 0, "delta": 1.0, "every": 1, "stabilize": 0},
            ),
            Target(
                "MagnitudePruning", baselines.MagnitudePruning,
                {
                    **plain, "structure": Takes(good=("channels", "filters", "weights")), "start": start,
                    "rounds": Takes(POSITIVE), "every": Takes((*NONE, *POSITIVE)),
                    "ignore": Takes(("()", "'1'"), given, ("none",)), "steps": Takes(POSITIVE),
                    "budget": Takes(NONE, (), ("channels",)), "round_to": Takes(POSITIVE, (), ({"*": 2},)),
                },
                {**trained, "start": 1, "rounds": 2},
            ),
            Target(
                "LRRewinding", baselines.LRRewinding,
                {
                    **plain, "structure": Takes(good=("channels",)), "start": Takes((*NONE, *COUNT)),
                    "penalty": Takes(("0", *AMOUNT)), "norm": norm,
                },
                {**trained, "structure": "channels", "penalty": 1e-4},
            ),
            Target(
                "NetworkSlimming", baselines.NetworkSlimming,
                {
                    **plain, "structure": Takes(good=("channels",)), "start": start, "penalty": Takes(("0", *AMOUNT)),
                    "norm": norm,
                },
                {**trained, "start": 1},
            ),
            Target(
                "method", baselines.method,
                {
                    "name": Takes(good=("swd", "uniform_decay")), "model": model, "target": target,
                    "structure": Takes(good=("channels", "weights")),
                },
                {"name": "swd", **bounds, "structure": "channels"},
            ),
        ]  # fmt: skip

    def _data(self) -> list[Target]:
        plan, certificate = self.plan.to_dict(), self.certificate.to_dict()
        group = next(iter(plan["kept"]))
        channels = ((0, 1), [1, 0], range(2), np.arange(2))
        wrong = ("01", 1, (0.0, 1.0), (True,), (-1,), (99,), {0: 1}, [None], None)
        kept = Takes(("{}",), [{group: c} for c in channels], [{group: c} for c in wrong])
        taken = {
            "kept": kept, "program_hash": Takes(), "widths": Takes(good=({group: np.int64(8)},), bad=({group: 7},)),
            "settings": Takes(("{}", "{'a': 1}"), ({"policy": "tied"},), ({"policy": "text"},)),
        }  # fmt: skip
        broken = [{name: value for name, value in plan.items() if name != left_out} for left_out in plan]
        lacking = [{name: value for name, value in certificate.items() if name != left} for left in ("exact", "notes")]
        every = Takes(("other program",), (self.program, self.masked, self.slim, self.empty))
        return [
            Target("Plan", self._applied, taken, {name: plan[name] for name in taken}),
            Target("Plan.from_dict", swdc.Plan.from_dict, {"data": Takes(good=(plan,), bad=broken)}),
            Target("Certificate.from_dict", swdc.Certificate.from_dict, {"data": Takes((), (certificate,), lacking)}),
            Target("Certificate.of", self.certificate.of, {"program": every}),
            Target("Certificate.belongs_to", self.certificate.belongs_to, {"program": every}),
        ]  # fmt: skip

    def _applied(self, **parts: Any) -> None:
        swdc.save(swdc.slim(self.program, swdc.Plan(**parts)), "slim")


def _loaded_into(model: Any, path: Any) -> None:
    """Load into a copy, so that the next call gets the model as it was made."""
    swdc.load_into(copy.deepcopy(model) if isinstance(model, nn.Module) else model, path)


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()


def _saved_plan(**arguments: Any) -> None:
    """Make a plan, and its hash, which needs plain data."""
    swdc.plan(**arguments).sha256()


def _stepped(method: type[swdc.SWD], **arguments: Any) -> None:
    """Make a method, and let it act once."""
    method(**arguments).step()


def _trainers() -> list[Target]:
    """Return the callbacks of the trainers that are installed."""
    found, functions = [], Takes(FUNCTIONS)
    if find_spec("lightning"):
        from swdc.trainers.lightning import SWDCallback

        index = Takes(("-1", *COUNT))
        found.append(Target("lightning", SWDCallback, {"method": functions, "index": index}, {"method": len}))
    if find_spec("transformers"):
        from swdc.trainers.transformers import SWDCallback as OfTransformers

        found.append(Target("transformers", OfTransformers, {"method": functions}))
    return found
