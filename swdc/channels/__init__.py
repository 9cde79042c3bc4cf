"""The words of an operator's rule: labels, dead values, what is kept."""
