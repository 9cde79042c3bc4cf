"""Sweeps over the bounds of SWD's coefficient and its target, on optuna."""

from __future__ import annotations

from swdc.sweeping.cells import Cell, Space, parse_values
from swdc.sweeping.experiments import EXPERIMENTS, Experiment
from swdc.sweeping.picture import draw_heat_maps
from swdc.sweeping.studies import Study, open_study
from swdc.sweeping.sweep import Progress, sweep

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
