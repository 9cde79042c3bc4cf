"""``python -m swdc``: the same as the command ``swdc``."""

from swdc.cli import main

if __name__ == "__main__":
    main()
