"""``docs/reference/operators.md``: the operators with a rule, as the code has them."""

from __future__ import annotations

import inspect
from itertools import groupby

from swdc.ops.base import OPERATORS, Operator
from tests.docs.reasons import module_title, reasons

_HEAD = """---
search: {boost: 0.3}
---
# Operators with a rule

This page is made from the code: `pytest tests/docs --regenerate-golden` writes it.

A rule says how channels go through an operator. The last column lists the reasons for which a rule may keep
channels, as `explain()` and `swdc inspect` give them, with your source line; "…" stands for a part that depends on
the call. An operator that is not listed keeps all channels that go into it and come out of it, and `explain()`
names it. [Write an operator's rule](../write-your-own/operator.md) says how to free them.

Some reasons are not repeated in the table, because any operator may give them, or any element-wise one:

- The channels are the model's input or its output.
- They are aligned with a dimension that holds no removable channels, as in the sum of a feature map and an input,
  or with one whose channels repeat in another way.
- A layer sums over them, and the value that they have when they are dead is no constant that its bias can take
  over.
- An element-wise operator is not defined where they are dead (it divides by zero, or takes a logarithm of it).
"""
_EVERYWHERE = {"is not defined for a dead channel (it divides by zero, or takes a logarithm of it)"}


def rules() -> list[type[Operator]]:
    """Return the classes of swdc's own operators, by module, each once."""
    found = dict.fromkeys(type(operator) for operator in OPERATORS.operators.values())
    own = [cls for cls in found if cls.__module__.startswith("swdc.ops.")]
    return sorted(own, key=lambda cls: (cls.__module__, inspect.getsourcelines(cls)[1]))


def page() -> str:
    """Return the page."""
    by_rule: dict[type[Operator], list[str]] = {}
    for name, operator in OPERATORS.operators.items():
        by_rule.setdefault(type(operator), []).append(name)
    lines = [_HEAD]
    for module, classes in groupby(rules(), lambda cls: cls.__module__):
        lines += [f"## {module_title(module)}\n", "| operators | rule | what stays |", "|---|---|---|"]
        for cls in classes:
            names = ", ".join(f"`{name}`" for name in sorted(by_rule[cls]))
            layers = sorted(f"`torch.nn.{layer.__name__}`" for layer in getattr(cls, "modules", ()) if _is_torch(layer))
            names += f"; {', '.join(layers)}" if layers else ""
            rule = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
            stays = "; ".join(_cell(text) for text in reasons(cls) if text not in _EVERYWHERE)
            lines.append(f"| {names} | {_cell(rule)} | {stays or '-'} |")
        lines.append("")
    return "\n".join(lines)


def _is_torch(layer: type) -> bool:
    return layer.__module__.startswith("torch.nn.")


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")
