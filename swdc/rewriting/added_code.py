"""Code that was added to a program after it was traced: hooks, and a forward of its own. No rewrite knows of it."""

from __future__ import annotations

from torch import nn

from swdc.ir.program import Program


def added_code(program: Program) -> str:
    """Return where hooks run, or another forward stands in the place of a program's or a layer's; empty if nowhere."""
    return ", ".join(path or "the program" for path, module in program.named_modules() if _is_changed(module))


def _is_changed(module: nn.Module) -> bool:
    return bool(module._forward_pre_hooks or module._forward_hooks) or "forward" in module.__dict__
