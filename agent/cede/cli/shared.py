"""What several commands share: the options for the policy and for JSON, and how a report is shown."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event

import click

from cede import encoding, policy_file
from cede.cli import screens
from cede.cli.signals import STOPPING, handling
from cede.conditions import Condition
from cede.doors import Doors, open_doors, open_doors_before_libvirt, open_journal
from cede.errors import CedeError, Exit, HungError, PolicyError, UnreachableError
from cede.execute.executor import Outcome, silence
from cede.explain import Explained
from cede.host.journal import Asked
from cede.host.lock import one_writer
from cede.policy import Policy
from cede.reconcile import Behalf, Checked, Report
from cede.record import as_last_seen

DEFAULT_POLICY = Path("/etc/cede/policy.yaml")
DEFAULT_FOLDER = Path("/etc/cede/policy.d")

SILENT = (UnreachableError, HungError)  # how it ends to look at a host that doesn't answer
policy_option = click.option(
    "-f", "--policy", "policy_path", metavar="PATH", type=click.Path(path_type=Path),
    help=f"The policy, a file or a folder. [default: {DEFAULT_POLICY} and {DEFAULT_FOLDER}/*.yaml]",
)  # fmt: skip
json_option = click.option("--json", "as_text", is_flag=True, help="Print JSON instead of text.")
scheduled_option = click.option(
    "--scheduled", is_flag=True,
    help="As the timer and the daemon do it: what somebody else took out is put back only where `on_drift` says"
    " `restore`. Without it a person asks, and it is restored in any case.",
)  # fmt: skip
yes_option = click.option(
    "--yes", is_flag=True, help="Don't ask before the first step, not even on a terminal."
)
wait_option = click.option(
    "--wait", "seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="SECONDS",
    help="How long to wait for another cede that is at work.",
)  # fmt: skip


def host_policy(path: Path | None) -> Policy:
    """The policy that was named, else the one of this host."""
    if path is not None:
        return policy_file.read_all([path])
    found = policy_file.read_all(policy_file.default_paths(DEFAULT_POLICY, DEFAULT_FOLDER))
    # one name for the host's policy, however many files it is in: the notes in the domains remember it
    return replace(found, source=str(DEFAULT_POLICY))


def host_policy_if_any(path: Path | None) -> Policy:
    """The same, but a host without a policy has an empty one: a one-off needs none."""
    if path is None and not DEFAULT_POLICY.exists() and not DEFAULT_FOLDER.exists():
        return Policy(source=str(DEFAULT_POLICY))
    return host_policy(path)


def host_policy_beside(output: Path | None, path: Path | None) -> Policy:
    """The same without the file `output`, which is about to be written: what would stand beside it."""
    named = (
        [path] if path is not None else policy_file.default_paths(DEFAULT_POLICY, DEFAULT_FOLDER)
    )
    files = [file for one in named for file in policy_file.files_at(one)]
    beside = [file for file in files if output is None or not _same_file(file, output)]
    if path is None and len(beside) == len(files):
        return host_policy_if_any(None)
    return policy_file.read_all(beside) if beside else Policy()


def _same_file(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def writing(
    uri: str | None, command: str, seconds: float, *, as_text: bool, all_needed: bool = True
) -> Iterator[tuple[Doors, Behalf]]:
    """The doors, for the one cede at a time that may change something, and on whose behalf it does.

    With no `uri` they are those of a host before its libvirt; unless `all_needed`, libvirt may be silent. The first
    interrupt or termination ends it after the steps that are being taken, the second at once. Raises TransientError if
    another cede is at work for longer than `seconds`.
    """
    stop = Event()

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        click.echo("\ncede: stopping after this step; once more to stop at once", err=True)

    asked = Asked(command=command, who=_who())
    progress = silence if as_text else screens.Progress()
    with (
        one_writer(
            f"`{command}` (pid {os.getpid()}, by {asked.who})",
            seconds=seconds,
            waiting=lambda holder: click.echo(f"cede: waiting: {holder}", err=True),
        ),
        (
            open_doors_before_libvirt() if uri is None else open_doors(uri, all_needed=all_needed)
        ) as doors,
    ):
        try:
            with handling(dict.fromkeys(STOPPING, stopped)):
                yield doors, Behalf(asked=asked, progress=progress, stop=stop)
        finally:
            for warning in doors.journal.warnings:
                click.echo(f"cede: {warning}", err=True)


@contextmanager
def failures_recorded(path: Path | None) -> Iterator[None]:
    """A pass that comes to nothing leaves that as a condition of the host; the error goes on to who asked."""
    try:
        yield
    except PolicyError as wrong:
        record_failure(str(path or DEFAULT_POLICY), None, wrong)
        raise
    except CedeError as failed:
        record_failure(str(path or DEFAULT_POLICY), failed)
        raise


def record_failure(
    source: str, failed: CedeError | None, rejected: CedeError | None = None, next_try: str = ""
) -> None:
    """Record what kept a pass over the policy `source` from its end, if that is libvirt's silence or the policy.

    What can't be written down isn't told: what `failed` first is what a person must hear of.
    """
    silent = failed if isinstance(failed, SILENT) else None
    if silent is None and rejected is None:
        return
    with closing(open_journal()) as journal, suppress(CedeError):
        found = as_last_seen(journal, source, libvirt=silent, rejected=rejected, next_try=next_try)
        journal.stand(source, found)


def _who() -> str:
    """The person behind sudo, pkexec or a login, else the account."""
    name = os.environ.get("SUDO_USER") or os.environ.get("PKEXEC_UID")
    account = getpass.getuser()
    return f"{name} as {account}" if name and name != account else account


def agreed(*, yes: bool) -> bool:
    """Whether a person who can be asked agrees; scripts have agreed by being scripts."""
    return yes or not sys.stdin.isatty() or click.confirm("Do this?")


def show_report(done: Report, *, as_text: bool) -> None:
    """What came of a pass: one JSON object, or what the progress hasn't said yet."""
    if as_text:
        click.echo(
            encoding.dumps(
                exit=done.exit,
                plan=done.plan,
                outcomes=told_outcomes(done.outcomes),
                checked=with_verdict(done.checked),
            )
        )
    else:
        screens.report(done)


def told_outcomes(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """What came of each work, as a report's JSON has it."""
    return [
        {
            "subject": one.work.subject,
            "tried": one.tried,
            "undone": one.undone,
            "error": one.error,
            "stranded": one.stranded,
        }
        for one in outcomes
    ]


def doors_as_they_are(uri: str) -> AbstractContextManager[Doors]:
    """The doors, whether libvirt answers or not."""
    return open_doors(uri, all_needed=False)


def show_checked(
    found: tuple[Checked, ...],
    *,
    as_text: bool,
    explained: tuple[Explained, ...] = (),
    restarted: tuple[str, ...] = (),
    failed: CedeError | None = None,
    conditions: Sequence[Condition] = (),
) -> int:
    """The findings, and the checklists where they were asked for; returns the exit status that they ask for."""
    in_step = all(one.proven or one.paused for one in found)
    code = failed.exit if failed else Exit.OK if in_step else Exit.OUT_OF_STEP
    if as_text:
        click.echo(
            encoding.dumps(
                exit=code,
                checked=with_verdict(found),
                conditions=conditions,
                explained=explained,
                restarted=restarted,
                error=failed,
            )
        )
        return code
    screens.standing(found, conditions)
    for one in explained:
        screens.explained(one)
    if failed is not None:
        screens.error(failed)
    return code


def with_verdict(found: Sequence[Checked]) -> list[dict[str, object]]:
    """What was checked, as JSON, with the verdict that it comes to."""
    return [{**encoding.plain(one), "proven": one.proven} for one in found]
