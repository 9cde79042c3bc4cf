"""Transplanting: the tensors of a slim program in a copy of the user's own model."""

from swdc.export.transplanting.transplantation import transplant

__all__ = ["transplant"]
