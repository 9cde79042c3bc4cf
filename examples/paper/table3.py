"""Table 3: ResNet-20 on CIFAR-10 over all targets, unstructured and structured, for widths 64 and 16."""

from common.options import options_of, parser
from common.running import guarded
from common.tradeoff import PAPER, STRUCTURES, draw, tradeoff


def main() -> None:
    """Train what has no row yet, and draw both figures."""
    made = parser(__doc__)
    made.add_argument("--structures", nargs="+", choices=list(STRUCTURES), default=list(STRUCTURES))
    found = made.parse_args()
    options = options_of(found)
    for width in [options.width] if options.width else [64, 16]:
        rows = tradeoff(options, width, found.structures, PAPER)
        draw(options.out / f"table3-{width}.png", rows, width)


if __name__ == "__main__":
    guarded(main)
