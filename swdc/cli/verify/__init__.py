"""``swdc verify``: a check by a third party, which trusts nothing inside a folder or a file."""
