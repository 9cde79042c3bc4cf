"""Table 2: ResNet-50 on ImageNet, unstructured and structured."""

from common.options import options_of, parser
from common.rows import Setting
from common.running import guarded, run
from common.settings import base, points
from common.tradeoff import PAPER, STRUCTURES

TARGETS = {"weights": (0.5, 0.9, 0.975), "channels": (0.1, 0.25, 0.5, 0.8)}
BOUNDS = {"weights": (1e-1, 1e5), "channels": (10.0, 1e4)}


def main() -> None:
    """Train what has no row yet."""
    made = parser(__doc__)
    made.add_argument("--structures", nargs="+", choices=list(STRUCTURES), default=list(STRUCTURES))
    found = made.parse_args()
    options = options_of(found)
    settings: list[Setting] = []
    for structure in found.structures:
        dense = base("table2", "resnet50", "imagenet", structure, options, None)
        settings += points(dense, options, PAPER, TARGETS[structure], lambda setting: BOUNDS[setting.structure])
    for row in run(settings, options.out / "table2.json", options):
        left = f"{100 * (1 - row['target']):g} % left"
        print(f"{row['structure']:8} {row['method']:12} {left:12} top-1 {row['accuracy']} top-5 {row.get('top5')}")


if __name__ == "__main__":
    guarded(main)
