"""Sparsity: what to remove (criteria, budgets, plans), and training that makes it removable (SWD, baselines)."""
