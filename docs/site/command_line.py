"""Writes the page of the command line: the help of every verb, as the program prints it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cutray.cli import cli

_PREAMBLE = """# Command line

What `cutray VERB --help` prints, for every verb. Exit codes: 0 all done, 1 something failed, 2 wrong usage, which is
found before any work. What a program wants to read, such as a job's summary, goes to standard output; notes, progress
and errors go to standard error.
"""


def _verbs(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Yield a verb's full name and its help, then those below it."""
    context = click.Context(command, parent=parent, info_name=name, terminal_width=100, max_content_width=100)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None and not child.hidden:
                yield from _verbs(child, child_name, context)


def page() -> str:
    """Return the page as Markdown."""
    parts = [_PREAMBLE]
    for path, text in _verbs(cli, "cutray", None):
        parts.append(f"## {path}\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(parts)
