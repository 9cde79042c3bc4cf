"""The Program, and what its graph says."""
