"""Table 7: three networks on CIFAR-10 and CIFAR-100, unstructured SWD over a grid of bounds, at 90 %."""

from common.grids import grid_table
from common.running import guarded

NETWORKS = {"resnet18": "cifar10", "resnet20": "cifar10", "resnet34": "cifar100"}


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    grid_table(__doc__, "table7", "weights", NETWORKS, targets=(0.9,), a_min="1e-5:1e-1", a_max="1e1:1e5")


if __name__ == "__main__":
    guarded(main)
