"""The front door: one file a command; it only connects."""

from clearhead.cli.main import main

__all__ = ["main"]
