"""The options of tracing."""

from __future__ import annotations

HEADS = "heads"
HEAD_DIM = "head_dim"
FACTORS = (HEADS, HEAD_DIM)
"""The two factors of an attention's width; the user chooses the one that loses channels."""

TIED, FREE = "tied", "free"
POLICIES = (TIED, FREE)
"""The two sides of a residual sum keep the same channels (``tied``), or each side its own (``free``)."""
