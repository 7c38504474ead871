"""``python -m cinema_lightning`` is ``cinema``."""

from cinema_lightning.cli import entry

if __name__ == "__main__":
    entry()
