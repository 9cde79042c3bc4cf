"""The counters of batch norms, noted apart from the calls of a run: the leaf modules of a program count themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from swdc.errors import TraceError

_COUNTER = "num_batches_tracked"
"""The buffer in which a batch norm, in a model or a program, counts the batches of training."""
_NUMBER = "number"
"""The type, in schemas of operators, of a result that is a plain number."""


class BatchCounters(Counter[str]):
    """How far a run counts. In evaluation only those batch norms count that the model's code trains nevertheless."""

    def note(self, func: Any, known: Sequence[Any], args: Sequence[Any], scopes: Sequence[tuple[str, str]]) -> bool:
        """Note a call if it writes a counter, and return whether it does.

        Raises ``TraceError`` if a batch norm reads its own counter, because what it computes then depends on that.
        """
        name = str(getattr(known[0], "key", "")) if known else ""
        if not name.endswith(_COUNTER):
            return False
        path = scopes[-1][0] if scopes else ""
        if name == f"{path}.{_COUNTER}" and _NUMBER in {str(result.type) for result in func._schema.returns}:
            raise TraceError(
                f"expected batch norms with a momentum where the model's code trains them in evaluation, too, got "
                f"{path} with momentum=None, whose average depends on how many batches it has seen; give it a momentum"
            )
        if func._schema.is_mutable and len(args) > 1 and type(args[1]) is int:
            self[name] += args[1]
        return bool(func._schema.is_mutable)
