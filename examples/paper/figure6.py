"""Figure 6: why decay must be selective. ResNet-20 on CIFAR-10, unstructured, nothing fine-tuned."""

from common.options import options_of, parser
from common.running import guarded
from common.tradeoff import draw, tradeoff

METHODS = ("decay", "uniform_decay", "swd")


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    options = options_of(parser(__doc__, width=64).parse_args())
    assert options.width is not None
    rows = tradeoff(options, options.width, ["weights"], METHODS)
    draw(options.out / "figure6.png", rows, options.width)


if __name__ == "__main__":
    guarded(main)
