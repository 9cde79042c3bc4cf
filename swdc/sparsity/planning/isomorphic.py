"""Ranking among groups that play the same part: scores of other groups need not be comparable (Fang et al. 2024)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from swdc.sparsity.planning.criteria import Scores


def ranks(scores: Scores, keys: Sequence[Hashable]) -> Scores:
    """Return for each channel the share of channels below it among all groups with the same key, in [0, 1).

    Removing the channels with the lowest shares then removes the same share of every set of groups.
    """
    ranked: Scores = [None] * len(scores)
    for key in dict.fromkeys(keys):
        found = [(n, s) for n, s in enumerate(scores) if keys[n] == key and s is not None]
        if not found:
            continue
        values = np.concatenate([s for _, s in found])
        order = np.argsort(values, kind="stable")
        shares = np.empty(len(values))
        shares[order] = np.arange(len(values)) / len(values)
        for (number, _), part in zip(found, np.split(shares, np.cumsum([len(s) for _, s in found])[:-1]), strict=True):
            ranked[number] = part
    return ranked
