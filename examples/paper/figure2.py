"""Figure 2: the trade-off between target and accuracy of ResNet-20 of width 64 on CIFAR-10; the rows are Table 3's."""

from common.running import guarded
from common.tradeoff import STRUCTURES, figure


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    figure(__doc__, "figure2", 64, list(STRUCTURES))


if __name__ == "__main__":
    guarded(main)
