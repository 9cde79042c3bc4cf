"""Table 4: LeNet-5 on MNIST, unstructured SWD over a grid of bounds, at 90 and 99 %."""

from common.grids import add_bounds, bounds_of, draw
from common.options import options_of, parser
from common.running import guarded, run
from common.settings import base, grid

TARGETS = (0.9, 0.99)


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    made = parser(__doc__)
    add_bounds(made, "1e-4:1e-1", "1e1:1e4")
    found = made.parse_args()
    options = options_of(found)
    dense = base("table4", "lenet5", "mnist", "weights", options, None)
    rows = run(grid(dense, options, TARGETS, *bounds_of(found)), options.out / "table4.json", options)
    draw(options.out / "table4.png", "LeNet-5 on MNIST", rows)


if __name__ == "__main__":
    guarded(main)
