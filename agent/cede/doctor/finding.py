"""A finding: what is wrong, why that matters, what fixes it, and the source that says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.model.pci import Address
from cede.model.plan import Action, RuleName, Sentence

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
    """What a rule found.

    `name` is the rule's own, the same in every version; `subject` is the host, a device, a domain or a file; `what`
    says what is wrong; `why` is why that matters, or how it shows; `remedy` is a command or a line of XML; `source` is
    the file or document that says so; `address` is the device that it is about, None if none; `actions` fix what is
    wrong, where cede can.
    """

    name: RuleName
    severity: Severity
    subject: Sentence
    what: Sentence
    why: Sentence
    remedy: Sentence
    source: Sentence
    address: Address | None = None
    actions: tuple[Action, ...] = ()


def quoted(said: str) -> str:
    """Return the printable ASCII of a line that comes from elsewhere, at most 200 characters."""
    clean = "".join(letter if " " <= letter <= "~" else " " for letter in said[: 4 * _MAX_LENGTH])
    short = " ".join(clean.split())
    return short if len(short) <= _MAX_LENGTH else short[: _MAX_LENGTH - 3] + "..."


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the first finding of each rule on each subject, the fatal ones first."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        found.setdefault((finding.name, finding.subject), finding)
    return tuple(sorted(found.values(), key=lambda one: _ORDER.index(one.severity)))
