"""Sweeps over the bounds of SWD's coefficient and its target, on optuna."""
