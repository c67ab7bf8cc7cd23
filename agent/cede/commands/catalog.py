"""The one table of the commands that the agent can do: what each is asked, and which module does it. Imports little."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cede.commands.requests import Request


class Kind(Enum):
    """READ changes nothing and answers in one go; ACT may change something, takes its time, and can be stopped."""

    READ = "read"
    ACT = "act"


class Command(NamedTuple):
    """A command: `asked` is the name of its request's type, `performed` the module with `perform(request, session)`.

    `here` are the fields that only the caller's own process serves: they name files of the caller's, or never end.
    """

    name: str
    asked: str
    performed: str
    kind: Kind
    here: tuple[str, ...] = ()

    @property
    def request(self) -> type[Request]:
        """The type of what it is asked."""
        from cede.commands import requests

        kind: type[Request] = getattr(requests, self.asked)
        return kind

    def request_of(self, fields: Mapping[str, object]) -> Request:
        """Return the request with these fields, which are of the right types."""
        kind: Callable[..., Request] = self.request
        return kind(**fields)

    @property
    def module(self) -> str:
        """The module that does it."""
        return f"cede.commands.{self.performed}"

    def only_here(self, fields: Mapping[str, object]) -> str:
        """Return the field for which the agent does not serve a request with these, or an empty text."""
        return next((name for name in self.here if fields.get(name)), "")


_EVERY = (
    Command("status", "StatusRequest", "status", Kind.READ, ("watch",)),
    Command("devices", "DevicesRequest", "devices", Kind.READ, ("save",)),
    Command("plan", "PlanRequest", "plan", Kind.READ, ("host",)),
    Command("doctor", "DoctorRequest", "doctor", Kind.READ),
    Command("history", "HistoryRequest", "history", Kind.READ),
    Command("doctor/fix", "DoctorFixRequest", "doctor", Kind.ACT),
    Command("apply", "ApplyRequest", "apply", Kind.ACT),
    Command("attach", "AttachRequest", "attach", Kind.ACT),
    Command("detach", "DetachRequest", "take_out", Kind.ACT),
    Command("release", "ReleaseRequest", "take_out", Kind.ACT),
    Command("verify", "VerifyRequest", "verify", Kind.ACT),
    Command("pause", "PauseRequest", "pause", Kind.ACT),
    Command("drain", "DrainRequest", "drain", Kind.ACT),
    Command("resume", "ResumeRequest", "resume", Kind.ACT),
)
COMMANDS = {command.name: command for command in _EVERY}
_BY_REQUEST = {command.asked: command for command in _EVERY}


def command_of(request: Request) -> Command:
    """Return the command that is asked by such a request."""
    return _BY_REQUEST[type(request).__name__]
