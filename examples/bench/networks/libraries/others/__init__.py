"""The other zoo: networks of many further libraries, which ``requirements.txt`` beside this installs.

Nothing is downloaded: weights are random, but for those that packages ship.
"""

from __future__ import annotations

from examples.bench.networks.entry import Entry, known
from examples.bench.networks.libraries.others import (
    attention,
    fields,
    medical,
    pretrained,
    signals,
    sound,
    vision,
)

PARTS = (pretrained, vision, attention, medical, fields, sound, signals)
NETWORKS = {name: recipe for part in PARTS for name, recipe in part.NETWORKS.items()}


def names() -> tuple[str, ...]:
    """Return the names of the networks: the library's, a dot, the network's."""
    return tuple(NETWORKS)


def entry(name: str) -> Entry:
    """Return a network with a small configuration."""
    recipe = NETWORKS[known(name, NETWORKS)]
    return Entry(name, recipe.build, recipe.inputs, recipe.trained)
