"""Uses of swdc, the experiments of the paper, and measurements."""
