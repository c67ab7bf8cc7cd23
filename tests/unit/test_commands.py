"""What a command is asked: values that are JSON both ways, one module for each, and only what the agent may do."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest

from cede.cli.device_commands import CHANNELS
from cede.commands import requests
from cede.commands.answer import NOTHING
from cede.commands.catalog import COMMANDS, Command, Kind, command_of
from cede.commands.confirmation import plan_digest, refuse_other
from cede.commands.perform import run
from cede.commands.screen import echo, shown_on
from cede.commands.session import Session
from cede.commands.writing import writing
from cede.errors import StopRequestedError, WorldMovedError
from cede.model.policy import Channel
from cede.model.serialization import build
from sim import probe_answers
from unit.raises import raises
from unit.test_cli import NIC, POLICY, policy

if TYPE_CHECKING:
    from pathlib import Path

    from cede.model.actions import Action
    from cede.model.plan import ActionOutcome, Change
    from sim.in_files import SimulatedHost

__all__ = ["policy"]
EVERY = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


class Sheet:
    """A screen that keeps what is written, and the progress of actions."""

    terminal = False

    def __init__(self) -> None:
        self.written: list[tuple[bool, str]] = []
        self.events: list[Action | ActionOutcome] = []

    def write(self, text: str, *, err: bool) -> None:
        self.written.append((err, text))

    def progress(self, change: Change, event: Action | ActionOutcome) -> None:
        assert change.actions
        self.events.append(event)

    @property
    def out(self) -> str:
        return "".join(text for err, text in self.written if not err)


def asked(command: Command) -> requests.Request:
    """A request with a text for whatever has no default."""
    return of(
        command, {each.name: "x" for each in fields(command.request) if each.default is MISSING}
    )


def of(command: Command, named: dict[str, Any]) -> requests.Request:
    """The request with these fields, as JSON has them."""
    request: requests.Request = build(command.request, named, "the request")
    return request


def session_on(host: SimulatedHost, screen: Sheet, **more: Any) -> Session:  # noqa: ANN401 - as Session has them
    return Session(runtime=host.runtime(), requester=lambda: "ann", screen=screen, **more)


@EVERY
def test_a_request_is_json_both_ways_and_its_command_has_a_module(command: Command) -> None:
    hints = get_type_hints(command.request)
    assert set(hints.values()) <= {str, int, float, bool, tuple[str, ...]}
    request = asked(command)
    read = json.loads(json.dumps(asdict(request)))
    assert command_of(request) is command
    assert of(command, read) == request
    assert callable(import_module(command.module).perform)
    assert set(command.here) <= set(hints)
    assert (command.kind is Kind.ACT) is ("wait" in hints)


@EVERY
def test_what_can_be_previewed_can_be_held_to_its_digest(command: Command) -> None:
    named = {each.name for each in fields(command.request)}
    assert len({"preview", "plan"} & named) in {0, 2}


def test_every_request_is_of_one_command() -> None:
    asked_for = sorted(command.request.__name__ for command in COMMANDS.values())
    assert asked_for == sorted(kind.__name__ for kind in get_args(requests.Request))


def test_a_request_that_names_a_file_of_the_callers_is_not_for_the_agent() -> None:
    path = "/tmp/host.json"
    assert COMMANDS["plan"].only_here({"host": path, "policy": path}) == "host"
    assert COMMANDS["devices"].only_here({"save": path}) == "save"
    assert COMMANDS["status"].only_here({"watch": True}) == "watch"
    assert COMMANDS["plan"].only_here({"host": "", "policy": path}) == ""


def test_the_channels_that_the_command_line_offers_are_those_of_the_policy() -> None:
    assert tuple(Channel) == CHANNELS


def test_a_digest_is_of_one_plan_alone() -> None:
    one, other = plan_digest(["pv1"]), plan_digest(["pv1", "pv2"])
    assert (len(one), plan_digest([])) == (64, NOTHING)
    assert one != other
    refuse_other(one, ["pv1"])
    refuse_other("", ["pv1"])
    with raises(WorldMovedError, "plan-changed"):
        refuse_other(one, ["pv2"])
    with raises(WorldMovedError, "plan-changed"):
        refuse_other(NOTHING, ["pv1"])


def test_what_is_performed_is_printed_on_the_screen_of_its_session_alone(
    host: SimulatedHost, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.guest_says = probe_answers.whole()
    preview, done = Sheet(), Sheet()
    shown = run(requests.ApplyRequest(policy=str(policy), preview=True), session_on(host, preview))
    assert (host.journal, preview.events) == ([], [])
    answer = run(
        requests.ApplyRequest(policy=str(policy), plan=shown.digest), session_on(host, done)
    )
    assert (answer.exit, f"plug pv1 {NIC}" in host.journal) == (0, True)
    assert preview.out.count("hot-plug") == 1
    assert done.out.count("hot-plug") == 1
    assert len(done.events) == 2 * preview.out.count(". "), "the begin and the end of each action"
    assert host.written.history(most=1)[0].requester == "ann"
    assert capsys.readouterr() == ("", "")


def test_progress_is_reported_where_json_is_printed(host: SimulatedHost, policy: Path) -> None:
    host.guest_says = probe_answers.whole()
    screen = Sheet()
    run(requests.ApplyRequest(policy=str(policy)), session_on(host, screen, as_json=True))
    assert screen.events
    assert json.loads(screen.out)["exit"] == 0


def test_a_plan_that_was_not_the_one_confirmed_changes_nothing(
    host: SimulatedHost, policy: Path
) -> None:
    shown = run(requests.ApplyRequest(policy=str(policy), preview=True), session_on(host, Sheet()))
    policy.write_text(POLICY.replace("pv1", "pv2"))
    answer = run(
        requests.ApplyRequest(policy=str(policy), plan=shown.digest), session_on(host, Sheet())
    )
    assert answer.error is not None
    assert (answer.error.name, host.journal) == ("plan-changed", [])


def test_a_fault_of_cedes_own_is_an_error_like_others(host: SimulatedHost, policy: Path) -> None:
    def broken(_: object) -> object:
        raise KeyError("xml")

    host.instead["domains"] = broken
    screen = Sheet()
    answer = run(requests.StatusRequest(policy=str(policy)), session_on(host, screen))
    assert answer.error is not None
    assert (answer.exit, answer.error.name) == (1, "unexpected")
    assert [err for err, _ in screen.written] == [True] * len(screen.written)


def test_a_session_that_is_stopped_waits_for_no_other_cede(host: SimulatedHost) -> None:
    session = session_on(host, Sheet())
    with writing(session_on(host, Sheet()), "cede apply", 0):
        session.stop.set()
        with raises(StopRequestedError, "interrupted"), writing(session, "cede drain", 60):
            pytest.fail("the lock was held")


def test_text_goes_to_the_screen_that_was_set_last(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Sheet()
    with shown_on(screen):
        echo("one\ntwo")
    echo("three")
    assert (screen.written, capsys.readouterr().out) == ([(False, "one | two\n")], "three\n")
