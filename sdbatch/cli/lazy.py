"""Groups of commands that import a command only to run it.

Help answers at once then, and a command that only looks at storage never loads what
another one needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows its commands by name; each lives in a module of its own.

    Args:
        held: Command to (section of the help page, one line); a dash of its name is an
            underscore in its module's.
        prefix: What a command's module name begins with; the module's `command` is run.
    """

    def __init__(
        self, *args: Any, held: Mapping[str, tuple[str, str]], prefix: str, **attrs: Any
    ) -> None:
        super().__init__(*args, **attrs)
        self.held, self.prefix = held, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """All names, in the order of the sections."""
        return list(self.held)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.held:
            return None
        module = importlib.import_module(self.prefix + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with the nearest name on a miss."""
        from sdbatch.job import nearest  # pydantic stays out of --help

        if args and not args[0].startswith("-") and args[0] not in self.held:
            raise click.UsageError(f"no command '{args[0]}'{nearest(args[0], list(self.held))}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the commands in their sections, without importing them."""
        for section in dict.fromkeys(of for of, _ in self.held.values()):
            rows = [(name, line) for name, (of, line) in self.held.items() if of == section]
            with formatter.section(section):
                formatter.write_dl(rows)
