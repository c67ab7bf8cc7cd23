"""Every command does and prints the same, whether its process or the agent does it: output, JSON, status, prompts."""

from __future__ import annotations

import re
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from cede.cli import main as command_line
from cede.cli.signals import stopping
from cede.commands.catalog import COMMANDS
from cede.errors import PermanentError
from sim import probe_answers
from sim.in_files import SimulatedHost
from sim.sys_tree import SysTree
from unit.both_ways import by_the_agent
from unit.test_asking import near, reached_at
from unit.test_cli import NIC, POLICY, Shown, asked_person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cede.adapters.runtime import Runtime

__all__ = ["near"]
SECOND = "0000:02:00.0"
# each after the one before, on a host of its own for each way
STEPS = (
    "status", "plan --diff", "devices", f"devices --long {NIC}", "devices 0000:0f:00.0", "history", "doctor",
    "doctor --fix --yes", f"doctor {NIC} pv1", f"doctor {NIC}", "apply", "apply --scheduled", "status",
    "verify --explain", "verify --restart --yes", "history -n 3 nic0",
    "pause pv1 --for 2h --reason a\tb", "pause nobody", "resume pv1",
    f"detach {NIC}", f"attach {NIC} pv2 --verify none", f"attach {NIC} nobody", f"release {NIC}", "release nosuch",
    "drain", "resume --host pv1", "resume", "apply -f /nowhere/policy.yaml", "plan --prune --scheduled",
)  # fmt: skip

# how long an action took, and the number that the kernel has for a device
_DIFFERS = re.compile(r"\b\d+\.\d+(?= s\b)|(?<=\"seconds\": )[\d.]+|(?<=\"instance\": )\d+")


class Way:
    """A host of its own, and the commands on it, done in one of the two ways."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder.mkdir()
        self.host = SimulatedHost(SysTree(folder))
        self.runtime: Callable[[], Runtime] = self.host.runtime
        self._folder, self._capsys = str(folder), capsys
        for address in (NIC, SECOND):
            self.host.card(address)
        for domid, name in enumerate(("pv1", "pv2"), 1):
            self.host.guest(name, domid)
        self.host.guest_says = probe_answers.whole()
        self.host.user = "ann"
        self.policy = self.host.paths.policy
        self.policy.parent.mkdir(parents=True)
        self.policy.write_text(POLICY)

    def __call__(self, *arguments: str) -> Shown:
        """What a command shows, without what differs from run to run."""
        with pytest.raises(SystemExit) as ended:
            command_line.main(list(arguments), self.runtime())
        out, err = (
            _DIFFERS.sub("0", text.replace(self._folder, "")) for text in self._capsys.readouterr()
        )
        return Shown(int(str(ended.value.code)), out, err)


@pytest.fixture
def ways(
    tmp_path: Path,
    near: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Way, Way]]:
    """The same host twice: one where the command does the work, one where the agent does."""
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    here, asked = Way(tmp_path / "here", capsys), Way(tmp_path / "there", capsys)
    with by_the_agent(asked.host, near) as asked.runtime:
        yield here, asked
    here.host.written.close()
    asked.host.written.close()


def test_the_steps_are_of_every_command_that_the_agent_can_do() -> None:
    names = {step.split()[0] for step in STEPS}
    assert names == {name.partition("/")[0] for name in COMMANDS}


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_every_command_shows_and_does_the_same_both_ways(
    ways: tuple[Way, Way], as_json: tuple[str, ...]
) -> None:
    here, asked = ways
    for step in STEPS:
        arguments = (*step.split(" "), *as_json)
        shown = here(*arguments)
        assert asked(*arguments) == shown, step
        assert asked.host.journal == here.host.journal, step
        assert shown.out or shown.err, step


@pytest.mark.parametrize("agrees", [True, False])
def test_what_is_confirmed_is_the_same_both_ways(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    seen = []
    for way in ways:
        shown: list[object] = []
        for step in ("apply", "drain", "resume", "doctor --fix", "verify --restart"):
            left = asked_person(monkeypatch, *[lambda: agrees] * 3)
            shown.append((way(*step.split(" ")), len(left)))
        seen.append((shown, way.host.journal))
    assert seen[0] == seen[1]


def test_a_plan_that_is_another_one_after_the_prompt_is_asked_for_again_both_ways(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ways:

        def moved(policy: Path = way.policy) -> bool:
            policy.write_text(POLICY.replace("pv1", "pv2"))
            return True

        left = asked_person(monkeypatch, moved, lambda: True)
        shown = way("apply")
        assert (shown.status, left, "changed since" in shown.err) == (0, [], True)
        assert f"plug pv2 {NIC}" in way.host.journal
        assert f"plug pv1 {NIC}" not in way.host.journal


def test_a_failed_action_is_rolled_back_and_said_the_same_both_ways(ways: tuple[Way, Way]) -> None:
    shown = []
    for way in ways:
        way.host.fails["plug"] = [PermanentError("libxl said no", remedy="read its log")]
        shown.append((way("apply"), way("status", "--json"), way("history")))
    assert shown[0] == shown[1]
    assert shown[0][0].status == 1


@pytest.mark.parametrize(
    "arguments",
    [("history", "-n", "1000000000"), ("doctor", NIC, "pv1", "--guest-log", "{log}")],
    ids=["a number", "a body"],
)
def test_what_is_beyond_the_bounds_of_the_interface_is_done_by_the_command_itself(
    ways: tuple[Way, Way], near: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    log = tmp_path / "dmesg"
    log.write_bytes(b"\xff" * (1 << 20))
    words = [word.format(log=log) for word in arguments]
    here, asked = ways
    asked.runtime()
    asked.runtime = lambda: reached_at(near, asked.host.runtime())
    assert asked(*words) == here(*words)
    assert asked("--agent", *words).status == 2


def test_an_interrupt_ends_the_work_after_its_present_action_both_ways(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()

    def noted(stop: Callable[[], object]) -> AbstractContextManager[None]:
        def both() -> None:
            stop()
            stopped.set()

        return stopping(both)

    def interrupted(bind: Callable[[], None], *_: object) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert stopped.wait(20)
        bind()

    monkeypatch.setattr("cede.cli.signals.stopping", noted)
    shown = []
    for way in ways:
        stopped.clear()
        way.host.instead["bind_to_pciback"] = interrupted
        said = way("apply")
        assert "interrupt again" in said.err
        shown.append((said, way.host.journal, way("history")))
    assert shown[0] == shown[1]
    assert (shown[0][0].status, f"plug pv1 {NIC}" in shown[0][1]) == (75, False)
