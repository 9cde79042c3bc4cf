"""How programs are written to files or into the user's model, and read back."""
