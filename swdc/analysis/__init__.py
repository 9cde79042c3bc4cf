"""Analyses that follow from the operators' rules: groups, constants, identities, the order of channels."""
