"""What makes data where a configuration names none, as the command line asks for it."""

from __future__ import annotations

from typing import Protocol

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser


class DataSource(Protocol):
    """Makes data where a configuration names none."""

    def add_options(self, parser: LightningArgumentParser) -> None:
        """Adds its options to a verb's."""

    def leave_open(self, config: Namespace) -> None:
        """Empties a data.root that names nothing."""

    def settle(self, config: Namespace) -> None:
        """Makes what is missing, and points data.root at it."""
