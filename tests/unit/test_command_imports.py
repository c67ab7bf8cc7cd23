"""What a command imports, in a process of its own: who only asks waits for little more than Python and click."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from unit.http_server import serving
from unit.test_asking import Agent, events, near

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["near"]
CLICK = "import sys, click, gettext, locale; before = set(sys.modules)\n"
SCRIPT = """\
import os
from cede.cli.main import main
if "SOCKET" in os.environ:
    from cede.util import well_known
    well_known.AGENT_SOCKET = os.environ["SOCKET"].removeprefix("/")
try:
    main(sys.argv[1:])
except SystemExit:
    pass
loaded = sorted(set(sys.modules) - before)
import json
print(json.dumps(loaded))
"""


def imported(*argv: str) -> set[str]:
    """The modules that such a command imports beyond click and what click imports."""
    done = subprocess.run(
        [sys.executable, "-c", CLICK + SCRIPT, *argv],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


def test_the_version_needs_the_command_line_alone() -> None:
    assert imported("--version") - {"__future__"} == {
        "cede", "cede.cli", "cede.cli.main", "cede.util", "cede.util.well_known",
    }  # fmt: skip


def test_the_help_of_a_command_needs_its_options_alone() -> None:
    assert {name for name in imported("apply", "--help") if name.startswith("cede.")} == {
        "cede.cli", "cede.cli.main", "cede.cli.apply_command", "cede.cli.options",
        "cede.cli.performing", "cede.cli.session", "cede.commands", "cede.commands.answer", "cede.commands.screen",
        "cede.util", "cede.util.text", "cede.util.well_known",
    }  # fmt: skip


def test_completing_a_command_imports_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CEDE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "cede sta")
    monkeypatch.setenv("COMP_CWORD", "1")
    names = {name for name in imported() if name.startswith("cede.")}
    assert not {name for name in names if name.endswith(("_command", "_commands"))}
    assert "cede.services" not in names


# beyond Python's and click's own: to say HTTP and JSON over a socket
ASKING = {
    "cede", "cede.api", "cede.api.client", "cede.api.reported_error",
    "cede.cli", "cede.cli.main", "cede.cli.options", "cede.cli.performing", "cede.cli.session",
    "cede.commands", "cede.commands.answer", "cede.commands.catalog", "cede.commands.exit_status",
    "cede.commands.screen", "cede.errors", "cede.util", "cede.util.account", "cede.util.text", "cede.util.well_known",
    "__future__", "dataclasses", "keyword", "copy", "socket", "_socket", "selectors", "select", "array", "math",
    "contextvars", "_contextvars",
    "getpass", "termios", "pwd", "signal", "json", "_json",
}  # fmt: skip
OF_THESE = ("json.",)


@pytest.mark.parametrize(
    ("command", "its_own"),
    [
        (("status",), {"cede.cli.status_command"}),
        (("history",), {"cede.cli.history_command"}),
        (("doctor", "--json"), {"cede.cli.doctor_command"}),
        (("apply", "--yes"), {"cede.cli.apply_command", "cede.cli.signals"}),
        (("release", "nic0"), {"cede.cli.device_commands", "cede.cli.signals"}),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_who_asks_the_agent_imports_nothing_of_what_it_does(
    near: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], its_own: set[str]
) -> None:
    agent = Agent(events())
    with serving(agent, near) as path:
        monkeypatch.setenv("SOCKET", str(path))
        names = imported(*command)
    assert agent.asked, "the agent was asked"
    assert {n for n in names if not n.startswith(OF_THESE)} <= ASKING | its_own
