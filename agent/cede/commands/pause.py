"""`cede pause`: leave a domain or a device as it is."""

from __future__ import annotations

from dataclasses import dataclass

from cede.commands.answer import Answer
from cede.commands.exit_status import Exit
from cede.commands.requests import PauseRequest
from cede.commands.screen import echo, echo_json
from cede.commands.session import Session, path_of
from cede.commands.writing import writing
from cede.model.journal_state import Pause
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy_if_any
from cede.services import maintenance
from cede.util.text import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOutput:
    """What `cede pause --json` prints; `pauses` are all that is paused or drained now."""

    pauses: tuple[Pause, ...]


def reason_of(text: str) -> str:
    """Return a reason as one line without control characters: other terminals show it later."""
    return one_line(" ".join(text.split()))


def perform(request: PauseRequest, session: Session) -> Answer:
    """Record the pause, and print all that is paused now if JSON is asked for."""
    target = request.target
    with writing(session, f"cede pause {target}", request.wait) as (adapters, context):
        policy = host_policy_if_any(path_of(request.policy), session.runtime)
        made = maintenance.pause(
            adapters,
            policy,
            target,
            context,
            reason=reason_of(request.reason),
            seconds=request.lasting or None,
        )
        now = adapters.journal.load_state().pauses
    if session.as_json:
        echo_json(dumps(PauseOutput(pauses=now)))
    else:
        echo(f"{target}: {made}")
    return Answer(exit=Exit.OK)
