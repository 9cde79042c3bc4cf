"""The passes of swdc, one to a file. They are found through the entry-point group ``swdc.passes``."""
