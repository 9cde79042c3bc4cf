"""Transplanting: putting the tensors of a slim program into a copy of the user's own model."""

from swdc.artifacts.transplanting.transplantation import transplant

__all__ = ["transplant"]
