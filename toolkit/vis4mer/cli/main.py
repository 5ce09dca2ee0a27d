"""The `vis4mer` command: a group of thin commands whose heavy imports happen when one of them runs."""

import sys

import click

from vis4mer import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vis4mer")
def main() -> None:
    """Classify long videos: train, export and run ViS4mer models."""


def main_run() -> None:
    """`vis4mer-run`, the same command as `vis4mer run`."""
    main.main(["run", *sys.argv[1:]], prog_name="vis4mer")


def main_export() -> None:
    """`vis4mer-export`, the same command as `vis4mer export`."""
    main.main(["export", *sys.argv[1:]], prog_name="vis4mer")
