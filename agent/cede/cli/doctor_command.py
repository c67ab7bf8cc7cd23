"""`cede doctor`: what on this host would make passthrough fail, each with its remedy, and the harmless fixes."""

from __future__ import annotations

import click

from cede.cli.options import json_option, names_of, policy_option, wait_option
from cede.cli.performing import confirmed, perform
from cede.cli.session import Caller
from cede.errors import UsageError

_MAX_BYTES = 1024 * 1024


@click.command("doctor")
@click.argument("device", metavar="[DEVICE", default="", shell_complete=names_of("devices"))
@click.argument("domain", metavar="DOMAIN]", default="", shell_complete=names_of("domains"))
@click.option(
    "--fix", is_flag=True, help="Fix what is harmless to fix, by a plan that is shown first."
)
@click.option("--yes", is_flag=True, help="With --fix, don't ask before the first step.")
@click.option(
    "--guest-log", "log", type=click.Path(allow_dash=True), metavar="FILE",
    help="Also examine the guest's dmesg, and its /proc/interrupts if you like; - reads them from a pipe.",
)  # fmt: skip
@policy_option
@json_option
@wait_option
@click.pass_obj
def doctor_command(
    caller: Caller,
    device: str,
    domain: str,
    fix: bool,
    yes: bool,
    log: str | None,
    policy: str,
    as_json: bool,
    wait: float,
) -> int:
    """Say what on this host would make passthrough fail, why, and how to fix it.

    With DEVICE and DOMAIN, also say what stands against giving that device to that domain, before anything is tried.
    Where libvirt or xenstore does not answer, or without root, the doctor examines what it can.

    Exit status 1 if something would make passthrough fail; after --fix too, as long as a guest must be restarted first.
    """
    if log is not None and not domain:
        raise UsageError(
            "--guest-log needs the DEVICE and the DOMAIN that wrote the log",
            name="missing-argument",
        )
    lines = () if log is None else _lines(log)
    fields = {"device": device, "domain": domain, "log": lines, "policy": policy}
    if fix:
        return confirmed(caller, "doctor/fix", fields | {"wait": wait}, as_json=as_json, yes=yes)
    return perform(caller, "doctor", fields, as_json=as_json).exit


def _lines(path: str) -> tuple[str, ...]:
    """Read the lines of a guest's log, at most 1 MiB. Raises UsageError if the file can't be read."""
    try:
        with click.open_file(path, "rb") as file:
            said: bytes = file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", name="file-unreadable"
        ) from error
    return tuple(said.decode("utf-8", "replace").splitlines())
