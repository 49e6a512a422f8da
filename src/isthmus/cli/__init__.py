"""The command line: a face of the public interface, and nothing more."""

from isthmus.cli.app import main

__all__ = ["main"]
