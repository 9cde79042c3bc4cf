"""Sparsity: what goes (criteria, budgets, plans) and how training lets it go (Selective Weight Decay)."""
