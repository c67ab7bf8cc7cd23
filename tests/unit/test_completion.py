"""Completion in a shell: names of the agent, at once, and nothing else than a socket is asked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import ShellComplete

from cede.api.messages import JSON, Request, Response
from cede.cli.main import cli
from unit.http_server import serving
from unit.test_asking import near, reached_at
from unit.test_cli import NIC

if TYPE_CHECKING:
    from cede.adapters.runtime import Runtime
    from sim.in_files import SimulatedHost

__all__ = ["near"]
ROOT = Path(__file__).parents[2]
NAMES = {"devices": ["nic0", NIC, "0000:02:00.0"], "domains": ["pv1", "pv2", "hvm-1"]}
HOSTILE = ["x;reboot", "$(reboot)", "-rf", "a b", "a\nb", "*", "`id`", "~", "", "\u202egnp"]


@dataclass
class Agent:
    """Answers with these names, and remembers what it was asked."""

    names: object
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.path}")
        return Response(status=self.status, content_type=JSON, body=json.dumps(self.names).encode())


@contextmanager
def running(agent: Agent, near: Path, runtime: Runtime) -> Iterator[Runtime]:
    """Serve the agent, whose lock is held as far as the kernel's list tells."""
    paths = runtime.paths
    paths.run_lock.parent.mkdir(parents=True, exist_ok=True)
    paths.run_lock.touch()
    paths.proc.mkdir(parents=True, exist_ok=True)
    lock = paths.run_lock.stat()
    device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}"
    text = f"1: FLOCK  ADVISORY  WRITE 7 {device}:{lock.st_ino} 0 EOF\n"
    (paths.proc / "locks").write_text(text)
    with serving(agent, near):
        yield reached_at(near, runtime)


def completed(runtime: Runtime | None, *words: str) -> list[str]:
    """What the last of these words is completed to."""
    *before, incomplete = words
    completion = ShellComplete(cli, {"obj": runtime}, "cede", "_CEDE_COMPLETE")
    return [item.value for item in completion.get_completions(before, incomplete)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("attach", ""), ["0000:01:00.0", "0000:02:00.0", "nic0"]),
        (("attach", "n"), ["nic0"]),
        (("attach", "0000:01"), [NIC]),
        (("attach", "nic0", ""), ["hvm-1", "pv1", "pv2"]),
        (("--no-agent", "release", "n"), ["nic0"]),
        (("doctor", NIC, "pv"), ["pv1", "pv2"]),
        (("pause", "--for", "2h", "p"), ["pv1", "pv2"]),
        (("drain", "n"), ["nic0"]),
        (("history", "h"), ["hvm-1"]),
        (("devices", "nic0", "0000:02"), ["0000:02:00.0"]),
        (("import", "--from-domain", "h"), ["hvm-1"]),
    ],
    ids=" ".join,
)
def test_names_are_those_of_the_agent(
    host: SimulatedHost, near: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    agent = Agent(NAMES)
    with running(agent, near, host.runtime()) as runtime:
        assert completed(runtime, *words) == expected
    assert agent.asked == ["GET /v1/names"]


def test_an_agent_that_does_not_run_is_not_started_by_its_socket(
    host: SimulatedHost, near: Path
) -> None:
    agent = Agent(NAMES)
    with running(agent, near, host.runtime()) as runtime:
        (runtime.paths.proc / "locks").write_text("")
        assert completed(runtime, "attach", "") == []
    assert agent.asked == []


def test_without_an_agent_nothing_is_completed_and_nothing_said(
    host: SimulatedHost, near: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(Agent(NAMES), near, host.runtime()) as runtime:
        pass
    assert completed(runtime, "attach", "") == []
    assert host.journal == []
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.parametrize(
    "said",
    [None, [], "x", {"devices": None}, {"devices": [1, None, {}]}, {"devices": {"a": 1}}, {}],
    ids=json.dumps,
)
def test_what_is_no_names_completes_nothing(host: SimulatedHost, near: Path, said: object) -> None:
    with running(Agent(said), near, host.runtime()) as runtime:
        assert completed(runtime, "attach", "") == []


def test_an_agent_without_names_completes_nothing(host: SimulatedHost, near: Path) -> None:
    with running(Agent(NAMES, status=404), near, host.runtime()) as runtime:
        assert completed(runtime, "attach", "") == []


def test_a_name_that_a_shell_would_not_take_as_it_is_is_left_out(
    host: SimulatedHost, near: Path
) -> None:
    names = {"devices": HOSTILE, "domains": [*HOSTILE, "pv1"]}
    with running(Agent(names), near, host.runtime()) as runtime:
        assert completed(runtime, "attach", "") == []
        assert completed(runtime, "attach", "nic0", "") == ["pv1"]


def test_a_host_with_many_devices_fills_no_terminal(host: SimulatedHost, near: Path) -> None:
    names = {"devices": [f"{n:04x}:01:00.0" for n in range(5000)], "domains": []}
    with running(Agent(names), near, host.runtime()) as runtime:
        assert len(completed(runtime, "attach", "")) == 1000


@pytest.mark.parametrize("options", [("--debug",), ("-v",), ("--root", "/nowhere")])
def test_options_do_nothing_while_a_word_is_completed(
    host: SimulatedHost, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--json" in completed(host.runtime(), "plan", *options, "--")
    assert tuple(capsys.readouterr()) == ("", "")


COMPLETE = r"""
_get_comp_words_by_ref() {  # of bash-completion, as for words that a shell splits at colons
    cur=0000:01 words=(cede attach 0000:01) cword=2
}
__ltrim_colon_completions() { COMPREPLY=("${COMPREPLY[@]#"${1%"${1##*:}"}"}"); }
complete() { :; }
eval "$(_CEDE_COMPLETE=bash_source cede)"
COMP_WORDS=(cede attach 0000 : 01) COMP_CWORD=4
_cede_completion cede 01 :
printf '%s\n' "${COMPREPLY[@]}"
"""


def test_bash_completes_an_address_though_it_splits_words_at_colons(
    near: Path, tmp_path: Path
) -> None:
    stub = f"""\
import sys
sys.path[:0] = {[str(ROOT / "agent")]!r}
from cede.cli import completion
from cede.cli.main import main
completion._agents_names = lambda _paths: {NAMES!r}
main()
"""
    (tmp_path / "stub.py").write_text(stub)
    program = near / "cede"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {tmp_path}/stub.py "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE],
        env={**os.environ, "PATH": f"{near}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("01:00.0\n", "")
