"""Processes that are killed at random while they write: nothing may be lost, and the next run leaves no litter."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import onnxruntime
import torch
from safetensors.torch import save_file
from torch import nn

import swdc
from swdc.artifacts.onnx.exporter import exported, in_float32
from swdc.capture.meta_model import trace_skeleton
from swdc.cli.sweep.cells import Space
from swdc.cli.sweep.experiments import Experiment, Results
from swdc.cli.sweep.optuna_study import Study, open_study
from swdc.cli.sweep.sweep import sweep
from swdc.cli.sweep.workers import Here
from swdc.costs.latency.cache import Cache
from swdc.errors import SwdcError
from swdc.ir.program import Program
from tests.faults.children import duration, killed

INPUT = torch.linspace(-1, 1, 8).reshape(2, 4)


def network(seed: int) -> nn.Module:
    """Return a small network in evaluation."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3)).eval()


def programs() -> list[Program]:
    """Return two slim programs of the same inputs that compute different things."""
    dense = [swdc.trace(network(seed), INPUT) for seed in (0, 1)]
    return [swdc.slim(program, swdc.plan(program, 0.5)) for program in dense]


class Job(ABC):
    """Something that writes. ``work`` is done again and again in one folder, and killed on the way.

    ``told`` is a file elsewhere, which is told of what may not be lost.
    """

    leaves: ClassVar[set[str]]
    """What is in the folder after a run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, folder.parent / "told"
        self.folder.mkdir()
        self.told.touch()

    @abstractmethod
    def work(self, number: int) -> None:
        """Do run ``number``."""

    @abstractmethod
    def lost(self) -> str:
        """Say what a killed run has lost; empty if it has lost nothing."""

    def done(self) -> str:
        """Say what is missing after a run that was not killed, or what it has left behind."""
        found = {file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()}
        found |= {file.name for file in self.folder.iterdir() if not any(file.iterdir() if file.is_dir() else [file])}
        return self.lost() or ("" if self._named(found) == self.leaves else f"leaves {sorted(found)}")

    def _named(self, found: set[str]) -> set[str]:
        return {name.split("/")[0] for name in found}


class Saving(Job):
    """Two programs saved to one folder in turn."""

    leaves: ClassVar[set[str]] = {"saved"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.programs = programs()
        self.results = [program(INPUT) for program in self.programs]
        self.place = folder / "saved"
        self.work(0)

    def work(self, number: int) -> None:
        swdc.save(self.programs[number % 2], self.place)

    def lost(self) -> str:
        try:
            found = swdc.load(self.place)(INPUT)
        except SwdcError as error:
            return f"nothing can be loaded: {error}"
        return "" if any(torch.equal(found, result) for result in self.results) else "another program"


class Streaming(Saving):
    """Two checkpoints cut tensor by tensor into one folder in turn."""

    def __init__(self, folder: Path) -> None:
        self.checkpoints = [folder.parent / f"{seed}.safetensors" for seed in (0, 1)]
        for seed, file in enumerate(self.checkpoints):
            save_file(dict(network(seed).state_dict()), file)
        self.skeleton = trace_skeleton(lambda: network(0), (INPUT,), {})
        self.plan = swdc.plan(self.skeleton, 0.5, weights=swdc.Checkpoint(self.checkpoints[0]))
        super().__init__(folder)
        self.results = [self._result(number) for number in (1, 0)]

    def work(self, number: int) -> None:
        swdc.slim_checkpoint(self.skeleton, self.plan, swdc.Checkpoint(self.checkpoints[number % 2]), self.place)

    def _result(self, number: int) -> torch.Tensor:
        self.work(number)
        found: torch.Tensor = swdc.load(self.place)(INPUT)
        return found


class Exporting(Job):
    """Two programs exported to one file in turn, each with its weights beside it.

    What torch exports is made once, so that the kills fall into what swdc does with it.
    """

    leaves: ClassVar[set[str]] = {"net.onnx", "net.onnx.data"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.programs, self.file = programs(), folder / "net.onnx"
        self.results = [program(INPUT).detach().numpy() for program in self.programs]
        self.made = [exported(in_float32(program), None) for program in self.programs]
        self.work(0)

    def work(self, number: int) -> None:
        large = patch("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
        with large, patch("swdc.artifacts.onnx.stages.exported", lambda *_, **__: self.made[number % 2]):
            swdc.export_onnx(self.programs[number % 2], self.file, batches=(2,))

    def lost(self) -> str:
        try:
            session = onnxruntime.InferenceSession(str(self.file), providers=["CPUExecutionProvider"])
            (found,) = session.run(None, {session.get_inputs()[0].name: INPUT.numpy()})
        except Exception as error:  # onnxruntime has errors of its own
            return f"nothing can be run: {error}"
        return "" if any(abs(found - result).max() < 1e-5 for result in self.results) else "another network"

    def _named(self, found: set[str]) -> set[str]:
        return {name.replace(".other", "") for name in found}


class Caching(Job):
    """Times added to the cache of latencies; what was added before has to stay."""

    leaves: ClassVar[set[str]] = {"latency"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cache = Cache(1, folder)
        self.work(0)

    def work(self, number: int) -> None:
        for part in range(10):
            self.cache.add({f"{number}.{part}": {(1,): 1.0}})
            with self.told.open("a") as file:
                file.write(f"{number}.{part}\n")

    def lost(self) -> str:
        added = set(self.told.read_text().split())
        gone = added - set(self.cache.load())
        return f"{len(gone)} of {len(added)} times" if gone else ""

    def done(self) -> str:
        files = [file.name for file in self.cache.path.parent.iterdir()]
        return super().done() or ("" if files == [self.cache.path.name] else f"leaves {files}")


class Sweeping(Job):
    """A sweep of four cells; every run goes on with the one before, and begins a study if that is finished."""

    leaves: ClassVar[set[str]] = {"sweep.db"}
    space: ClassVar[Space] = Space((0.1, 1.0), (10.0, 100.0), (0.9,))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.number = 0

    def work(self, number: int) -> None:
        self.number = number
        study = self._study()
        sweep(study, _Told(self.told, study))

    def lost(self) -> str:
        told = self.told.read_text().split()
        finished = [line.split("#")[1] for line in told if line.startswith(f"{self.number}#")]
        rows = {f"{row.cell.a_min}/{row.cell.a_max}" for row in self._study().rows()}
        twice = [cell for cell, times in Counter(finished).items() if times > 1]
        return f"results of {set(finished) - rows}" if set(finished) - rows else f"{twice} run again" if twice else ""

    def done(self) -> str:
        missing = len(self.space.cells()) - self._study().done()
        return super().done() or (f"{missing} cells are not finished" if missing else "")

    def _study(self) -> Study:
        return open_study(str(self.folder / "sweep.db"), f"{self.number}", self.space, Experiment("train.py:run"))


class _Told(Here):
    """Runs cells, and tells a file when the study has their results."""

    def __init__(self, file: Path, study: Study) -> None:
        self._experiment, self._waiting = Experiment("train.py:run"), []
        self._function = lambda a_min, a_max, target, seed: a_min
        finish = study.finish

        def told(number: int, results: Results) -> None:
            cell = study._claimed[number].params
            finish(number, results)
            with file.open("a") as stream:
                stream.write(f"{study._study.study_name}#{cell['a_min']}/{cell['a_max']}\n")

        study.finish = told  # type: ignore[method-assign]


class Compressing(Job):
    """A compression; every run goes on with the one before, and has to end with the bits of one that was not killed."""

    leaves: ClassVar[set[str]] = {
        "settings.json", "sensitivity.json", "trials.db", "trials", "slim", "report.json"
    }  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        self.inputs = torch.randn(32, 4)
        self.wanted = self.model(self.inputs).detach()
        self._compress(folder.parent / "unkilled")
        self.expected = self._found(folder.parent / "unkilled")

    def work(self, number: int) -> None:
        self._compress(self.folder)

    def lost(self) -> str:
        for network in (*self.folder.glob("trials/*/network"), *self.folder.glob("slim")):
            try:
                swdc.load(network)
            except SwdcError as error:
                return f"{network.parent.name}/{network.name} cannot be loaded: {error}"
        return ""

    def done(self) -> str:
        problem = super().done() or ("" if self._found(self.folder) == self.expected else "another result")
        for each in list(self.folder.iterdir()):  # the next run begins anew
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        return problem

    def _compress(self, folder: Path) -> None:
        swdc.compress(
            self.model, INPUT, torch.split(self.inputs, 8), self._closeness, most_drop=0.5, epochs=2, rate=1e-2,
            trials=3, folder=folder, onnx=False, progress=False,
        )  # fmt: skip

    def _found(self, folder: Path) -> tuple[object, ...]:
        report = json.loads((folder / "report.json").read_text())
        weights = {name: tensor.tolist() for name, tensor in swdc.load(folder / "slim").tensors.items()}
        return report["trials"], report["cuts"], report["metric"], weights

    def _closeness(self, program: nn.Module) -> float:
        return -float((program(self.inputs) - self.wanted).square().mean() / self.wanted.square().mean())


JOBS: dict[str, type[Job]] = {
    "save": Saving, "export": Exporting, "streaming": Streaming, "cache": Caching, "sweep": Sweeping,
    "compress": Compressing,
}  # fmt: skip


@dataclass
class Kills:
    """How often a job was killed at work, and what fell."""

    job: str
    runs: int = 0
    at_work: int = 0
    fallen: list[str] = field(default_factory=list)


def kill_job(name: str, runs: int, seed: int, announce: Callable[[int], None] = lambda done: None) -> Kills:
    """Kill a job at a random time in each of its runs, look at what is there, run it, and look again."""
    drawn, found = random.Random(f"{name} {seed}"), Kills(name)
    with tempfile.TemporaryDirectory() as given:
        job = JOBS[name](Path(given) / "work")
        usual = min(duration(partial(job.work, 1)) for _ in range(3))
        for number in range(2, runs + 2):
            found.at_work += killed(partial(job.work, number), drawn.uniform(0, usual))
            for problem in filter(None, (_of_run(job, number), _after(job, number))):
                found.fallen.append(f"{name}, run {number}: {problem}")
            found.runs += 1
            announce(found.runs)
    return found


def _of_run(job: Job, number: int) -> str:
    if isinstance(job, Sweeping):
        job.number = number
    return job.lost()


def _after(job: Job, number: int) -> str:
    job.work(number)
    return job.done()
