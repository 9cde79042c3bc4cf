"""Families of operators, and helpers that they share. Importing this package fills the operator table."""

from importlib import import_module
from pkgutil import iter_modules

from swdc.ops.base import Leaf, Operator, calls, leaf_of, lookup, register, shapes_of
from swdc.ops.call_cost import Cost

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = ["Cost", "Leaf", "Operator", "calls", "leaf_of", "lookup", "register", "shapes_of"]
