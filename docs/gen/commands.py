"""The page of commands, and the look-up that tells whether a written command exists: both from the command line's own objects."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from docs.gen.markdown import code, plain, table


@functools.cache
def root() -> click.Group:
    """Return the whole command line as one click group."""
    from sim.cli import app

    group = typer.main.get_command(app)
    if not isinstance(group, click.Group):
        raise TypeError("the command line is a group of commands")
    return group


def commands(group: click.Group | None = None, path: tuple[str, ...] = ("fedild",)) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it."""
    for name, command in (group or root()).commands.items():
        words = (*path, name)
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield words, command
            yield from commands(command, words)
        elif not command.hidden:
            yield words, command


def fault_of(line: str, *, whole: bool = True) -> str:
    """Say what is wrong with a written command; nothing when the command line would take it. Nothing is run.

    Parameters
    ----------
    line : str
        As it is typed.
    whole : bool
        Whether all that the command needs must be there; in running text the names of command and options alone must exist.

    Examples
    --------
    >>> fault_of("fedild verify runs/demo"), fault_of("fedild verfiy runs/demo")
    ('', "fedild: no such command 'verfiy'")
    >>> fault_of("fedild predict ... --persnal", whole=False)
    "fedild predict: no such option '--persnal'"
    """
    words = shlex.split(line, comments=True)
    command: click.Command = root()
    said, rest, context = words[0], words[1:], click.Context(command, info_name=words[0])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(context, rest[0])
        if inner is None:
            return "" if rest[0] == "..." else f"{said}: no such command {rest[0]!r}"
        command, said, rest = inner, f"{said} {rest[0]}", rest[1:]
        context = click.Context(command, parent=context, info_name=words[1])
    if "--help" in rest or (isinstance(command, click.Group) and not rest):
        return ""
    if not whole:
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        bad = [word for word in (one.strip("[]").partition("=")[0] for one in rest) if word.startswith("--") and word not in known]
        return f"{said}: no such option {bad[0]!r}" if bad else ""
    try:
        command.make_context(said, list(rest), parent=context)
    except click.UsageError as error:
        return f"{said}: {error.format_message()}"
    return ""


def commands_page() -> str:
    """Return the page of all commands."""
    parts = [
        "# Commands",
        "Exit codes: 0 done, 1 failed, 2 bad input (with the rule, the value and the way out), 130 interrupted. `--help` says the same as this page.",
    ]
    for words, command in commands():
        context = click.Context(command, info_name=" ".join(words))
        parts += [f"## {' '.join(words)}", plain(command.help or ""), f"```sh\n{_usage(command, context)}\n```"]
        rows = []
        for parameter in command.get_params(context):
            if "--help" in parameter.opts or getattr(parameter, "hidden", False):
                continue
            names = parameter.make_metavar(context) if isinstance(parameter, click.Argument) else ", ".join(parameter.opts)
            default = parameter.default
            rows.append((code(names), getattr(parameter, "help", "") or "", "required" if parameter.required else code(_default(default))))
        parts.append(table(("argument", "what it is", "default"), rows))
        if command.epilog:
            parts.append(f"```sh\n{command.epilog.removeprefix('Example: ')}\n```")
    return "\n\n".join(filter(None, parts)) + "\n"


def _default(value: object) -> object:
    return value if isinstance(value, str | int | float | Path) and value is not False else None


def _usage(command: click.Command, context: click.Context) -> str:
    return f"{context.info_name} {' '.join(command.collect_usage_pieces(context))}"
