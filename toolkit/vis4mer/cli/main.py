"""The `vis4mer` command, a group of thin commands; heavy packages are imported only when a command runs."""

import importlib
import sys
import traceback
from typing import Any

import click

from vis4mer import __version__
from vis4mer.cli.console import name_options, say, show_log_messages
from vis4mer.cli.interrupt import INTERRUPTED, immediate_interrupt
from vis4mer.cli.memory import memory_errors
from vis4mer.errors import Vis4merError

# Each command is a function in a module of the same name.
_COMMANDS = ("run", "extract", "train", "eval", "export", "verify", "inspect", "doctor")


class _Commands(click.Group):
    """Imports a command's module when it is needed, and maps everything that can end a command to an exit code.

    - 0: All was done.
    - 1: An input, a file or the machine made some or all of it fail: a `Vis4merError`, or a command's own count.
    - 2: The command line itself is wrong, whatever files and machine are like: a `click.UsageError`, before any work.
    - 130: Ctrl-C.

    A traceback stands for a defect of this project.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"vis4mer.cli.{cmd_name}"), cmd_name)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with memory_errors(), immediate_interrupt():
                return super().main(*args, **kwargs)
        except OSError as error:
            if not _concerns_stdout(error):
                raise
            say("error", f"stdout: cannot be written: {error.strerror}; free some space, or redirect it")
            sys.stdout = None  # otherwise Python fails again when it flushes stdout at exit
            sys.exit(1)
        except Vis4merError as error:  # of `memory_errors`
            say("error", str(error))
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        # Before a command is looked up, which may warn of a plug-in. A command with --quiet sets up its own choice.
        show_log_messages(quiet=False)
        try:
            return super().invoke(ctx)
        except Vis4merError as error:
            say("error", str(error))
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        # Not `command.params`: those of an export's targets are made by `get_params`.
        options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)] if command else []
        name_options(name for option in options for name in option.opts if name.startswith("--"))
        return name, command, rest


def _concerns_stdout(error: OSError) -> bool:
    """Returns whether the error was raised by `click.echo`, through which every command prints to stdout."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is click.echo.__code__


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vis4mer")
def main() -> None:
    """Classify long videos: train, export and run ViS4mer models."""


def main_run() -> None:
    """Runs `vis4mer run`, under the name `vis4mer-run`."""
    main.main(["run", *sys.argv[1:]], prog_name="vis4mer")


def main_export() -> None:
    """Runs `vis4mer export`, under the name `vis4mer-export`."""
    main.main(["export", *sys.argv[1:]], prog_name="vis4mer")


if __name__ == "__main__":
    main(prog_name="vis4mer")
