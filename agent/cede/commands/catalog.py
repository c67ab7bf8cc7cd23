"""The one table of the commands that the agent can do: what each is asked, and which module does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cede.commands import requests
from cede.commands.requests import Request


class Kind(Enum):
    """READ changes nothing and answers in one go; ACT may change something, takes its time, and can be stopped."""

    READ = "read"
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: `request` is the type of what it is asked, `module` has its `perform(request, session)`.

    `here` are the fields that only the caller's own process serves: they name files of the caller's, or never end.
    """

    name: str
    request: type[Request]
    module: str
    kind: Kind
    here: tuple[str, ...] = ()


def _command(
    name: str, request: type[Request], module: str, kind: Kind, *here: str
) -> tuple[str, Command]:
    return name, Command(
        name=name, request=request, module=f"cede.commands.{module}", kind=kind, here=here
    )


COMMANDS = dict(
    (
        _command("status", requests.StatusRequest, "status", Kind.READ, "watch"),
        _command("devices", requests.DevicesRequest, "devices", Kind.READ, "save"),
        _command("plan", requests.PlanRequest, "plan", Kind.READ, "host"),
        _command("doctor", requests.DoctorRequest, "doctor", Kind.READ),
        _command("history", requests.HistoryRequest, "history", Kind.READ),
        _command("doctor/fix", requests.DoctorFixRequest, "doctor", Kind.ACT),
        _command("apply", requests.ApplyRequest, "apply", Kind.ACT),
        _command("attach", requests.AttachRequest, "attach", Kind.ACT),
        _command("detach", requests.DetachRequest, "take_out", Kind.ACT),
        _command("release", requests.ReleaseRequest, "take_out", Kind.ACT),
        _command("verify", requests.VerifyRequest, "verify", Kind.ACT),
        _command("pause", requests.PauseRequest, "pause", Kind.ACT),
        _command("drain", requests.DrainRequest, "drain", Kind.ACT),
        _command("resume", requests.ResumeRequest, "resume", Kind.ACT),
    )
)
_OF_TYPE = {command.request: command for command in COMMANDS.values()}


def command_of(request: Request) -> Command:
    """Return the command that is asked by such a request."""
    return _OF_TYPE[type(request)]


def serves_only_here(request: Request) -> str:
    """Return the field of `request` for which the agent does not serve it, or an empty text."""
    return next((name for name in command_of(request).here if getattr(request, name)), "")
