"""Table 6: ResNet-20 on CIFAR-10, structured SWD over a grid of bounds, at 75 and 90 %."""

from common.grids import FILE, add_bounds, bounds_of, draw
from common.options import options_of, parser
from common.running import guarded, run
from common.settings import base, grid

NETWORKS = {"resnet20": "cifar10"}
TARGETS = (0.75, 0.9)


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    made = parser(__doc__, width=64)
    add_bounds(made, "1e-4:1e0", "1e1:1e6")
    made.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="run these only")
    found = made.parse_args()
    options = options_of(found)
    for network in found.networks:
        dense = base("grid", network, NETWORKS[network], "channels", options, options.width)
        rows = run(grid(dense, options, TARGETS, *bounds_of(found)), options.out / FILE, options)
        draw(options.out / f"table6-{network}.png", f"{network} on {NETWORKS[network]}", rows)


if __name__ == "__main__":
    guarded(main)
