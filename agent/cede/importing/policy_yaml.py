"""A proposal as the YAML of a policy, for the administrator to edit: every value that is not plain is quoted.

Text from other files goes into comments too, so it is reduced to printable lines first.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

import yaml

from cede.importing.imported_policy import ImportedAssignment, ImportedDevice, ImportedPolicy
from cede.model.policy import When

_WIDTH = 100
_MAX_COMMENT = 600
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def policy_text(imported: ImportedPolicy, sources: Iterable[str], names: dict[str, str]) -> str:
    """Return the policy as YAML with a final newline. `names` has the card's name for each device's name."""
    lines = [
        *_comment(f"Made by `cede import` from {', '.join(sources)}."),
        "# Nothing was changed. Review and edit this file, then run `cede plan -f` with it.",
    ]
    if imported.notes:
        lines += ["#", "# Left out:"]
        lines += [line for note in imported.notes for line in _comment(note, mark="# - ")]
    lines += ["version: 1", "devices:" if imported.devices else "devices: {}"]
    for device in imported.devices:
        lines += _device(device, names.get(device.name, ""))
    lines.append("assignments:" if imported.assignments else "assignments: []")
    for assignment in imported.assignments:
        lines += _assignment(assignment)
    return "\n".join(lines) + "\n"


def _device(device: ImportedDevice, called: str) -> Iterator[str]:
    yield f"  {device.name}:"
    if called:
        yield from _comment(called, mark="    # ")
    yield from _comment(f"from {', '.join(device.origins)}", mark="    # ")
    for note in device.notes:
        yield from _comment(note, mark="    # - ")
    yield f'    match: {{address: "{device.address}"}}'
    if device.identity is not None:
        identity = device.identity
        yield f'    expect: {{vendor: "{identity.vendor}", device: "{identity.device}"}}'


def _assignment(assignment: ImportedAssignment) -> Iterator[str]:
    yield f"  - device: {assignment.device}"
    yield f"    domain: {_scalar(assignment.domain)}"
    if assignment.permissive:
        yield "    permissive: true"
    if assignment.adopt:
        yield "    adopt: true"
    if assignment.when is not When.NOW:
        yield f"    when: {assignment.when}"


def _scalar(text: str) -> str:
    """Return `text` as YAML that reads back as the same string."""
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=float("inf")).rstrip("\n")
    return quoted


def _comment(text: str, mark: str = "# ") -> list[str]:
    """Return `text` as comment lines; the first begins with `mark`, the others are indented below."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:_MAX_COMMENT])
    further = mark[: mark.index("#") + 1].ljust(len(mark))
    return textwrap.wrap(
        clean, width=_WIDTH, initial_indent=mark, subsequent_indent=further, break_long_words=False,
        break_on_hyphens=False,
    ) or [mark.rstrip()]  # fmt: skip
