"""The choices that a user has when a model is traced, and the names of the ways of capture."""

from __future__ import annotations

HEADS = "heads"


HEAD_DIM = "head_dim"


FACTORS = (HEADS, HEAD_DIM)
"""The factors of an attention's width that a user can choose from."""


TIED, FREE = "tied", "free"


POLICIES = (TIED, FREE)
"""Whether the two sides of a residual sum keep the same channels, or each its own."""


FOLLOW = "follow"


EXPORT = "export"


RECORD = "record"
