"""Table 5: ResNet-20 on CIFAR-10, unstructured SWD at 90 %, with bounds that also fall."""

from common.grids import grid_table
from common.running import guarded

NETWORKS = {"resnet20": "cifar10"}


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    grid_table(__doc__, "table5", "weights", NETWORKS, targets=(0.9,), a_min="1e-5:1e4", a_max="1e1:1e5")


if __name__ == "__main__":
    guarded(main)
