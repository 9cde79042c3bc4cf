"""Table 6: ResNet-20 on CIFAR-10, structured SWD over a grid of bounds, at 75 and 90 %."""

from common.grids import grid_table
from common.running import guarded

NETWORKS = {"resnet20": "cifar10"}


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    grid_table(__doc__, "table6", "channels", NETWORKS, targets=(0.75, 0.9), a_min="1e-4:1e0", a_max="1e1:1e6")


if __name__ == "__main__":
    guarded(main)
