"""Check results: what was expected of one item, what was found, and when an assignment is verified.

Each result stands for itself; an assignment is verified when none of its results is wrong and none is open. What rests
on the guest's word alone has a source that begins with "guest"; everything else dom0 or Xen says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(StrEnum):
    """How a finding ends; one that is only noted speaks neither for nor against."""

    RIGHT = "right"
    WRONG = "wrong"
    OPEN = "not proven"
    NOTED = "noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: where, what was wanted, what was found."""

    source: str
    wanted: str
    found: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.source}: {self.found}" + (
            "" if self.verdict in {Verdict.RIGHT, Verdict.NOTED} else f" (wanted {self.wanted})"
        )


def judged(source: str, wanted: object, found: object, *, right: bool) -> Finding:
    """A finding that is right or wrong."""
    return Finding(
        source=source,
        wanted=str(wanted),
        found=str(found),
        verdict=Verdict.RIGHT if right else Verdict.WRONG,
    )


def proven(findings: Sequence[Finding]) -> bool:
    """Whether every finding that decides is right, and there is one."""
    deciding = [f for f in findings if f.verdict is not Verdict.NOTED]
    return bool(deciding) and all(f.verdict is Verdict.RIGHT for f in deciding)


def refused(reason: str) -> Finding:
    """The finding for an assignment that the planner refuses as things are."""
    return Finding(
        source="plan", wanted="an assignment that can be", found=reason, verdict=Verdict.WRONG
    )


def settled(reason: str) -> Finding:
    """The finding for an assignment that is in step without the device: its alternative has it."""
    return Finding(source="plan", wanted=reason, found=reason, verdict=Verdict.RIGHT)


def unproven(source: str, why: str) -> Finding:
    """A finding that couldn't be made, and why; it is never taken for right."""
    return Finding(source=source, wanted="an answer", found=why, verdict=Verdict.OPEN)


def unasked() -> Finding:
    """What is told of a guest that the policy has nobody ask: the rest is dom0's and Xen's word."""
    return noted("guest", "not proven, since the policy has nobody asked (verify: {guest: none})")


def noted(source: str, found: str) -> Finding:
    """A finding that a person may want to know and that decides nothing."""
    return Finding(source=source, wanted="", found=found, verdict=Verdict.NOTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found of one subject, and whether that proves it; `paused` if a person told cede to leave it alone."""

    subject: str
    findings: tuple[Finding, ...]
    paused: bool = False

    @property
    def proven(self) -> bool:
        """Whether every finding is right."""
        return proven(self.findings)
