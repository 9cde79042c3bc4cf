"""Calls of public functions with arguments of wrong types and out of range: an error of swdc has to refuse each."""
