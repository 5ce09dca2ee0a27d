"""The command reference, made from the commands themselves: their help texts, usage lines and options."""

from collections.abc import Iterator

import click

from vis4mer.cli.main import main

# Place of the commands in the page.
MARK = "<!-- commands -->"


def reference() -> str:
    """Returns a section for every command of `vis4mer`, in the order of its help, as Markdown."""
    with click.Context(main, info_name="vis4mer", **main.context_settings) as parent:
        return "\n".join(_section(parent, name) for name in main.list_commands(parent))


def _section(parent: click.Context, name: str) -> str:
    command = main.get_command(parent, name)
    assert command is not None, f"list_commands names {name}"
    with click.Context(command, info_name=name, parent=parent) as context:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        options = "\n".join(f"`{names}`\n:   {text}\n" for names, text in _options(context))
    return f"""## vis4mer {name}

{_paragraphs(command.help or "")}

```text
{usage}
```

{options}"""


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    """Yields the names and the description of each option; hidden ones have no help record."""
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            yield record[0], _escaped(record[1])


def _paragraphs(help_text: str) -> str:
    paragraphs = help_text.split("\n\n")
    return "\n\n".join(_escaped(" ".join(paragraph.replace("\b", "").split())) for paragraph in paragraphs)


def _escaped(text: str) -> str:
    """Escapes characters that Markdown or HTML would take for markup."""
    return text.replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
