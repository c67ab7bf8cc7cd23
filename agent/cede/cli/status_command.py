"""`cede status`: wanted against real, once or for as long as one watches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.composition import open_doors, open_journal
from cede.cli import output
from cede.cli.options import json_option, policy_option
from cede.cli.report import with_verdict
from cede.errors import CedeError, Exit, PolicyError
from cede.model import serialization
from cede.model.conditions import Condition, changes
from cede.policy.policy_files import host_policy
from cede.services.reconcile import replan, stands, status
from cede.services.status import SILENT, as_last_seen
from cede.verifier.check_results import Checked

if TYPE_CHECKING:
    from cede.model.policy import Policy

_SHORTEST = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One look at everything; `silent` is why nothing could be seen, and all but that is as last seen then."""

    checked: tuple[Checked, ...] = ()
    conditions: tuple[Condition, ...] = ()
    silent: CedeError | None = None

    @property
    def exit(self) -> Exit:
        """In step unless something that isn't paused is out of it."""
        if self.silent is not None:
            return self.silent.exit
        well = all(one.proven or one.paused for one in self.checked)
        return Exit.OK if well else Exit.OUT_OF_STEP


@click.command("status")
@policy_option
@json_option
@click.option(
    "--watch", is_flag=True,
    help="Look again and again: redraws on a terminal, elsewhere a line for each change.",
)  # fmt: skip
@click.option(
    "--interval", "seconds", type=click.FloatRange(min=_SHORTEST), default=5.0, show_default=True,
    metavar="SECONDS", help="How long --watch waits between two looks.",
)  # fmt: skip
@click.pass_obj
def status_command(
    uri: str, policy_path: Path | None, as_text: bool, watch: bool, seconds: float
) -> int:
    """Show wanted against real per assignment, from dom0's side, and since when it is so.

    Exit status 4 if out of step; what is paused or drained doesn't count.
    """
    policy = host_policy(policy_path)
    if watch:
        return _watch(lambda: _look_again(uri, policy_path, policy), seconds, as_text=as_text)
    found = _look(uri, policy)
    _show(found, as_text=as_text)
    return found.exit


def _look_again(uri: str, path: Path | None, first: Policy) -> Looked:
    """With the policy as it is by now; while it is wrong, everything is as last seen."""
    try:
        return _look(uri, host_policy(path))
    except PolicyError as wrong:
        return _last_seen(first, wrong)


def _look(uri: str, policy: Policy) -> Looked:
    try:
        with open_doors(uri) as doors:
            targets, planned = replan(doors, policy)
            checked = status(targets, planned)
            return Looked(checked=checked, conditions=stands(doors, targets, planned, checked))
    except SILENT as silent:
        return _last_seen(policy, silent)


def _last_seen(policy: Policy, why: CedeError) -> Looked:
    with closing(open_journal()) as journal:
        rejected = why if isinstance(why, PolicyError) else None
        silent = why if rejected is None else None
        found = as_last_seen(journal, policy.source, libvirt=silent, rejected=rejected)
    return Looked(conditions=found, silent=why)


def _show(found: Looked, *, as_text: bool) -> None:
    if as_text:
        click.echo(serialization.dumps(**_plain(found)))
        return
    if found.silent is not None:
        output.error(found.silent)
    output.standing(found.checked, found.conditions)


def _plain(found: Looked) -> dict[str, object]:
    return {
        "exit": found.exit,
        "checked": with_verdict(found.checked),
        "conditions": found.conditions,
        "explained": (),
        "restarted": (),
        "error": found.silent,
    }


def _watch(
    look: Callable[[], Looked],
    seconds: float,
    *,
    as_text: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Until interrupted; the exit status is that of the last look."""
    code = Exit.OK
    with suppress(KeyboardInterrupt):
        for found, new in _looks(look, seconds, sleep):
            code = found.exit
            if as_text:
                if new:
                    click.echo(json.dumps(serialization.plain(_plain(found))))
            elif sys.stdout.isatty():
                click.clear()
                click.echo(f"every {seconds:g} s; Ctrl-C ends it\n")
                _show(found, as_text=False)
            else:
                for one in new:
                    click.echo(f"{one.subject or 'host'}: {one}")
            sys.stdout.flush()
    return code


def _looks(
    look: Callable[[], Looked], seconds: float, sleep: Callable[[float], None]
) -> Iterator[tuple[Looked, Sequence[Condition]]]:
    """Each look with what changed since the one before; all is new in the first.

    What no pass has written down is dated by the first look that saw it.
    """
    before: tuple[Condition, ...] = ()
    while True:
        found = look()
        now = tuple(_dated(found.conditions, before))
        yield (
            Looked(checked=found.checked, conditions=now, silent=found.silent),
            changes(before, now),
        )
        before = now
        sleep(seconds)


def _dated(now: Sequence[Condition], before: Sequence[Condition]) -> Iterator[Condition]:
    had = {(one.subject, one.type): one for one in before}
    for one in now:
        was = had.get((one.subject, one.type))
        same = was is not None and (was.status, was.reason) == (one.status, one.reason)
        yield was if was is not None and same and was.since < one.since else one
