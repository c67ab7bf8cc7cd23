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


class CheckStatus(StrEnum):
    """How a finding ends; one that is only noted speaks neither for nor against."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "not verified"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One thing looked at: where, what was wanted, what was found."""

    source: str
    expected: str
    found: str
    status: CheckStatus

    def __str__(self) -> str:
        return f"{self.source}: {self.found}" + (
            ""
            if self.status in {CheckStatus.PASSED, CheckStatus.INFO}
            else f" (wanted {self.expected})"
        )


def check_result(source: str, expected: object, found: object, *, passed: bool) -> CheckResult:
    """A finding that is right or wrong."""
    return CheckResult(
        source=source,
        expected=str(expected),
        found=str(found),
        status=CheckStatus.PASSED if passed else CheckStatus.FAILED,
    )


def verified(findings: Sequence[CheckResult]) -> bool:
    """Whether every finding that decides is right, and there is one."""
    deciding = [f for f in findings if f.status is not CheckStatus.INFO]
    return bool(deciding) and all(f.status is CheckStatus.PASSED for f in deciding)


def refused_result(reason: str) -> CheckResult:
    """The finding for an assignment that the planner refuses as things are."""
    return CheckResult(
        source="plan", expected="an assignment that can be", found=reason, status=CheckStatus.FAILED
    )


def alternative_result(reason: str) -> CheckResult:
    """The finding for an assignment that is in sync without the device: its alternative has it."""
    return CheckResult(source="plan", expected=reason, found=reason, status=CheckStatus.PASSED)


def unverified_result(source: str, why: str) -> CheckResult:
    """A finding that couldn't be made, and why; it is never taken for right."""
    return CheckResult(
        source=source, expected="an answer", found=why, status=CheckStatus.UNVERIFIED
    )


def not_asked_result() -> CheckResult:
    """What is told of a guest that the policy has nobody ask: the rest is dom0's and Xen's word."""
    return info_result(
        "guest", "not verified, since the policy has nobody asked (verify: {guest: none})"
    )


def info_result(source: str, found: str) -> CheckResult:
    """A finding that the administrator may want to know and that decides nothing."""
    return CheckResult(source=source, expected="", found=found, status=CheckStatus.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentChecks:
    """What was found of one subject, and whether that proves it; `paused` if a person told cede to leave it alone."""

    subject: str
    findings: tuple[CheckResult, ...]
    paused: bool = False

    @property
    def verified(self) -> bool:
        """Whether every finding is right."""
        return verified(self.findings)
