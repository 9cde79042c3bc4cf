"""What tables call the things that they show."""


def operations_title(convention: str) -> str:
    """Return what a table calls the operations of a convention."""
    return "multiply-adds (macs)" if convention == "macs" else f"operations ({convention})"
