"""Sweeps over the bounds of SWD's coefficient and its target, on optuna."""

from __future__ import annotations

from swdc.cli.sweep.cells import Cell, Space, parse_values
from swdc.cli.sweep.experiments import EXPERIMENTS, Experiment
from swdc.cli.sweep.picture import draw_heat_maps
from swdc.cli.sweep.studies import Study, open_study
from swdc.cli.sweep.sweep import Progress, sweep

__all__ = [
    "EXPERIMENTS",
    "Cell",
    "Experiment",
    "Progress",
    "Space",
    "Study",
    "draw_heat_maps",
    "open_study",
    "parse_values",
    "sweep",
]
