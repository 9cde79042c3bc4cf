"""A grid of bounds for the graph network of Figure 5, unstructured, at 95 and 99.5 %; the paper has none for it."""

from common.grids import grid_table
from common.running import guarded

NETWORKS = {"gcn": "Cora"}


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    grid_table(__doc__, "grid", "weights", NETWORKS, targets=(0.95, 0.995), a_min="1e-2:1e0", a_max="1e5:1e7", width=16)


if __name__ == "__main__":
    guarded(main)
