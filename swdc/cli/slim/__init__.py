"""The command ``swdc slim``."""
