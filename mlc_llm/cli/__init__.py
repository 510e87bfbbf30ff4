"""The command ``mlc_llm``. Each subcommand is a module that is imported when it is called."""

from mlc_llm.cli.app import main

__all__ = ["main"]
