"""Torch-Pruning in its documented use, for comparison."""
