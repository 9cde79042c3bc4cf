"""Table 7: three networks on CIFAR-10 and CIFAR-100, unstructured SWD over a grid of bounds, at 90 %."""

from common.grids import FILE, add_bounds, bounds_of, draw
from common.options import options_of, parser
from common.running import guarded, run
from common.settings import base, grid

NETWORKS = {"resnet18": "cifar10", "resnet20": "cifar10", "resnet34": "cifar100"}
TARGETS = (0.9,)


def main() -> None:
    """Train what has no row yet, and draw the heat maps."""
    made = parser(__doc__, width=64)
    add_bounds(made, "1e-5:1e-1", "1e1:1e5")
    made.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="run these only")
    found = made.parse_args()
    options = options_of(found)
    for network in found.networks:
        dense = base("grid", network, NETWORKS[network], "weights", options, options.width)
        rows = run(grid(dense, options, TARGETS, *bounds_of(found)), options.out / FILE, options)
        draw(options.out / f"table7-{network}.png", f"{network} on {NETWORKS[network]}", rows)


if __name__ == "__main__":
    guarded(main)
