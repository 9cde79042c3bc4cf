"""Running measurements: apart, in turns, resuming from rows on disk."""
