"""A page that shows what slimming did: what went, what stayed and why, and the proof."""
