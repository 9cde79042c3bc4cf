"""How programs leave and come back."""
