"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import click

from cede.commands.answer import WAIT_SECONDS
from cede.util.well_known import POLICY, POLICY_FOLDER

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


_PART = re.compile(r"([0-9]{1,6})\s*([smhdw])")


_MAX_LENGTH = 366 * 86400


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Return the seconds that an option's value means. Raises BadParameter with examples."""
    if value is None:
        return None
    text = value.strip().lower()
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if _PART.sub("", text).strip() or not 0 < seconds <= _MAX_LENGTH:
        raise click.BadParameter(
            f"{value!r} is not a time of at most a year, such as 90m, 2h, 1h30m or 7d"
        )
    return float(seconds)


def file_path(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    """Return the path that an option's value means, from wherever it is read; an empty text without a value."""
    return os.path.join(os.getcwd(), value) if value else ""  # noqa: PTH109, PTH118 - pathlib is slow to import


Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(*kinds: str) -> Completion:
    """Return what completes an argument that is one of the agent's `devices`, `domains` or either."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from cede.cli.completion import names_like

        return names_like(context, kinds, incomplete)

    return complete


policy_option = click.option(
    "-f", "--policy", metavar="PATH", type=click.Path(), callback=file_path,
    help=f"The policy, a file or a folder. [default: /{POLICY} and /{POLICY_FOLDER}/*.yaml]",
)  # fmt: skip


prune_option = click.option(
    "--prune", is_flag=True,
    help="With -f: also take out what was given for that policy before and is no device of it any more. The host's own"
    " policy needs no --prune for that.",
)  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


scheduled_option = click.option(
    "--scheduled", is_flag=True,
    help="As the timer and the daemon do: put back what another tool took out only where `on_drift` says"
    " `restore`. Without --scheduled, put that back in any case.",
)  # fmt: skip


yes_option = click.option(
    "--yes", is_flag=True, help="Don't ask before the first action, not even on a terminal."
)


wait_option = click.option(
    "--wait", type=click.FloatRange(min=0), default=WAIT_SECONDS, show_default=True, metavar="SECONDS",
    help="How long to wait for another running cede.",
)  # fmt: skip
