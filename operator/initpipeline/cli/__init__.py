"""The command line."""

from initpipeline.cli.main import main

__all__ = ["main"]
