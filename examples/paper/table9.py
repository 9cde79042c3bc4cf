"""Table 9: ResNet-20 of width 16 on CIFAR-10 over all targets, unstructured SWD with four pairs of bounds."""

from common.options import Options, options_of, parser
from common.pictures import curve, draw_curves
from common.rows import Row
from common.running import guarded, run
from common.settings import base, points
from common.tradeoff import FILE, TARGETS

PAIRS = ((0.1, 1e4), (0.1, 5e4), (1.0, 1e4), (1.0, 5e4))


def table9(options: Options, width: int) -> list[Row]:
    """Return the rows, trained where there are none yet."""
    dense = base("tradeoff", "resnet20", "cifar10", "weights", options, width)
    settings = []
    for pair in PAIRS:
        settings += points(dense, options, ["swd"], TARGETS, lambda setting, pair=pair: pair)
    return run(dict.fromkeys(settings), options.out / FILE, options)


def main(description: str | None = __doc__, picture: str = "table9.png") -> None:
    """Train what has no row yet, and draw the figure."""
    options = options_of(parser(description or "", width=16).parse_args())
    assert options.width is not None
    rows = [row for row in table9(options, options.width) if row["method"] == "swd"]
    lines = {
        f"a_min {low:g}, a_max {high:g}": curve([r for r in rows if (r["a_min"], r["a_max"]) == (low, high)])
        for low, high in PAIRS
    }
    draw_curves(options.out / picture, f"ResNet-20-{options.width} on CIFAR-10", {"Unstructured SWD": lines})


if __name__ == "__main__":
    guarded(main)
