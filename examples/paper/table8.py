"""Table 8: three networks on CIFAR-10 and CIFAR-100, structured SWD over a grid of bounds, at 90 %."""

from common.grids import grid_table
from common.running import guarded

NETWORKS = {"resnet18": "cifar10", "resnet20": "cifar10", "resnet34": "cifar100"}


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    grid_table(__doc__, "table8", "channels", NETWORKS, targets=(0.9,), a_min="1e-5:1e0", a_max="1e1:1e6")


if __name__ == "__main__":
    guarded(main)
