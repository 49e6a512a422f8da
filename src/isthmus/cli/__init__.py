"""The command line, which uses only the public interface."""

from isthmus.cli.app import main

__all__ = ["main"]
