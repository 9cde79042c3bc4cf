"""From a trained network to the smallest one that is good enough: plans, trials, and what comes out."""
