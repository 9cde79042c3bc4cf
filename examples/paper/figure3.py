"""Figure 3: the trade-off between target and accuracy of ResNet-20 of width 16 on CIFAR-10; the rows are Table 3's."""

from common.options import options_of, parser
from common.running import guarded
from common.tradeoff import STRUCTURES, draw, tradeoff


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    options = options_of(parser(__doc__, width=16).parse_args())
    assert options.width is not None
    rows = tradeoff(options, options.width, list(STRUCTURES))
    draw(options.out / "figure3.png", rows, options.width)


if __name__ == "__main__":
    guarded(main)
