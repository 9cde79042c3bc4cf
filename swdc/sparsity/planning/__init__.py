"""Plans: which channels stay, by a criterion and a budget."""
