"""Figure 4: no pair of bounds is best at every target; the rows are Table 9's."""

from common.running import guarded
from table9 import main

if __name__ == "__main__":
    guarded(lambda: main(__doc__, "figure4.png"))
