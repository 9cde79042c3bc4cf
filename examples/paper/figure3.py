"""Figure 3: the trade-off between target and accuracy of ResNet-20 of width 16 on CIFAR-10; the rows are Table 3's."""

from common.running import guarded
from common.tradeoff import STRUCTURES, figure


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    figure(__doc__, "figure3", 16, list(STRUCTURES))


if __name__ == "__main__":
    guarded(main)
