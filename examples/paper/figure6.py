"""Figure 6: why decay must be selective. ResNet-20 on CIFAR-10, unstructured, nothing fine-tuned."""

from common.running import guarded
from common.tradeoff import figure

METHODS = ("decay", "uniform_decay", "swd")


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    figure(__doc__, "figure6", 64, ["weights"], METHODS)


if __name__ == "__main__":
    guarded(main)
