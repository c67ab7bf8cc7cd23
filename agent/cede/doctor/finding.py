"""A finding: what is wrong, why that matters, what fixes it, and where it is written that it is so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.model.plan import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST = "this host"
_MAX_LENGTH = 200


class Severity(StrEnum):
    """How much a finding matters: fatal makes passthrough fail, a warning may, a note only explains."""

    FATAL = "fatal"
    WARNING = "warning"
    NOTE = "note"


_ORDER = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule found.

    `name` is the rule's own, the same in every version; `subject` what it is about: the host, a device, a domain.
    `remedy` is a command or a line of XML, `source` the file or document that says so; `actions` fix it, where cede
    can.
    """

    name: str
    severity: Severity
    subject: str
    what: str
    why: str
    remedy: str
    source: str
    actions: tuple[Action, ...] = ()


def quoted(said: str) -> str:
    """A stranger's line as it may be shown: its printable ASCII, and not too much of it."""
    clean = "".join(letter if " " <= letter <= "~" else " " for letter in said[: 4 * _MAX_LENGTH])
    short = " ".join(clean.split())
    return short if len(short) <= _MAX_LENGTH else short[: _MAX_LENGTH - 3] + "..."


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once: the first that a rule made of a subject, the fatal ones before the others."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        found.setdefault((finding.name, finding.subject), finding)
    return tuple(sorted(found.values(), key=lambda one: _ORDER.index(one.severity)))
