"""Table 3: ResNet-20 on CIFAR-10 over all targets, unstructured and structured, for widths 64 and 16.

``--short`` trains a part of it at a tenth of the cost: 30 epochs at a one-cycle rate, width 16, two seeds, with the
paper's bounds scaled so that the sum of lr a mu over the course is the paper's, and the pull held at lr a mu = 1.
"""

import argparse

from common import short
from common.options import options_of, parser
from common.running import guarded, run
from common.tradeoff import PAPER, STRUCTURES, draw, tradeoff


def main() -> None:
    """Train what has no row yet, and draw both figures."""
    made = parser(__doc__, seeds=None)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--structures", nargs="+", choices=list(STRUCTURES), default=list(STRUCTURES))
    made.add_argument("--short", action="store_true", help="the short course")
    made.add_argument(
        "--only", nargs="+", default=(), metavar="CELL",
        help="with --short: patterns of structure/percent/method/seed, such as weights/98/swd/*",
    )  # fmt: skip
    found = made.parse_args()
    found.seeds = found.seeds or (short.SEEDS if found.short else 1)
    if found.short:
        options = options_of(found)
        rows = run(short.settings_of(options, found.structures, found.only), options.out / short.FILE, options)
        draw(options.out / "table3-short.png", rows, options.width or short.WIDTH)
        return
    if found.only:
        made.error("expected --only with --short, got it without")
    options = options_of(found)
    for width in [options.width] if options.width else [64, 16]:
        rows = tradeoff(options, width, found.structures, PAPER)
        draw(options.out / f"table3-{width}.png", rows, width)


if __name__ == "__main__":
    guarded(main)
