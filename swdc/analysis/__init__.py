"""What follows from the operators' rules: groups, constants, identities, the order of channels."""
