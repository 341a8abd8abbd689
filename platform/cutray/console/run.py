"""Run a command and turn what goes wrong into a message and an exit code. One of the program's outer edges."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from cutray.errors import (
    ConfigError,
    CutrayError,
    MissingExtraError,
    OptionError,
    OutputExistsError,
    UnknownModelError,
)

# Wrong usage: found before any work, and mended by another command line.
_WRONG_USAGE = (ConfigError, MissingExtraError, OptionError, OutputExistsError, UnknownModelError)


def run(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        command: What to run.
        arguments: Words after the program's name; those of the process by default.

    Returns:
        Exit code: 0 all went well, 1 something failed, 2 wrong usage or configuration, 130 interrupted.
    """
    try:
        result: Any = command.main(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CutrayError as error:
        click.echo(f"cutray: {error}", err=True)
        return 2 if isinstance(error, _WRONG_USAGE) else 1
    except BrokenPipeError:
        # Whoever read our output has stopped doing so; Python must not try to flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0
