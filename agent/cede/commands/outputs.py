"""What the commands print with --json, each one value; schemas/*.schema.json are generated from their types.

Those of one command alone are in its module. What is printed of devices and of a proposed policy is in
services/describe_devices.py and importing/imported_policy.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from cede.commands.exit_status import Exit
from cede.errors import CedeError, Diagnostic
from cede.model.conditions import Condition
from cede.model.plan import Plan
from cede.services.pass_report import ChangeOutcome, CheckedAssignment
from cede.verifier.verify import Explained


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOutput:
    """What a command prints with --json that ends in an error, in place of its own output.

    `diagnostics` are all that is wrong in a file, in the order of the lines, empty for another error.
    """

    exit: Exit
    error: CedeError
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutput:
    """What `cede plan --json` and `cede boot --plan --json` print."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOutput:
    """What the commands print with --json that carry out a plan: apply, attach, detach, release, drain, resume, boot.

    `outcomes` are one for each change of the plan, in its order; `checked` is what was looked at afterwards.
    """

    exit: Exit
    plan: Plan
    outcomes: tuple[ChangeOutcome, ...]
    checked: tuple[CheckedAssignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOutput:
    """What `cede status --json` and `cede verify --json` print.

    `checked` are one for each assignment, in the policy's order; `conditions` are those of the host and of every
    assignment, as last seen if libvirt doesn't answer; `explained` are the checklists of the assignments, in the
    policy's order, empty without --explain; `restarted` are the domains that were shut down and started, empty without
    --restart; `error` is why nothing could be looked at, or with --restart the first guest's failure.
    """

    exit: Exit
    checked: tuple[CheckedAssignment, ...]
    conditions: tuple[Condition, ...]
    explained: tuple[Explained, ...] = ()
    restarted: tuple[str, ...] = ()
    error: CedeError | None = None
