"""How long: `90m`, `2h`, `1h30m`, `7d`, as systemd writes time spans (systemd.time(7))."""

from __future__ import annotations

import re

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_LONGEST = 366 * 86400


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """The seconds that an option's value means; raises BadParameter with what would be right."""
    if value is None:
        return None
    text = value.strip().lower()
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if _PART.sub("", text).strip() or not 0 < seconds <= _LONGEST:
        raise click.BadParameter(f"{value!r} is no time span up to a year: 90m, 2h, 1h30m, 7d")
    return float(seconds)
