"""systemd-sleep's hook: it drains before a suspend and resumes after it, but never a host that a person had drained."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / "contrib/systemd/system-sleep/cede"
CEDE = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$1" in
status) cat "$STATUS"; exit 4 ;;
*) exit "${FAILS:-0}" ;;
esac
"""
DRAIN = "drain --yes --wait 30 --reason suspend of the host"
RESUME = "resume --host --yes --wait 60"
ASK = "status --json"
DRAINED = '{"conditions": [{"subject": "", "type": "Maintenance", "status": "True", "reason": "Drained"}]}'
IN_SERVICE = DRAINED.replace("True", "False").replace("Drained", "InService").replace(", ", ",\n  ")


class Host:
    """A folder with a cede that writes down how it is called."""

    def __init__(self, folder: Path) -> None:
        self.calls, self.status, self.own = folder / "calls", folder / "status", folder / "own"
        cede = folder / "cede"
        cede.write_text(CEDE)
        cede.chmod(0o755)
        self.status.write_text(IN_SERVICE)
        self._path = f"{folder}:/usr/bin:/bin"

    def sleeps(self, *arguments: str, fails: int = 0) -> list[str]:
        """What the hook asked of cede when called so; it must end with 0 whatever comes."""
        self.calls.write_text("")
        done = subprocess.run(
            [str(HOOK), *arguments], capture_output=True, text=True, check=False,
            env={
                "PATH": self._path, "CALLS": str(self.calls), "STATUS": str(self.status),
                "CEDE_SLEEP_FILE": str(self.own), "FAILS": str(fails),
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return self.calls.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("kind", ["suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate"])
def test_devices_are_drained_before_and_put_back_after(host: Host, kind: str) -> None:
    assert host.sleeps("pre", kind) == [ASK, DRAIN]
    assert host.sleeps("post", kind) == [RESUME]
    assert host.sleeps("post", kind) == [], "once"


@pytest.mark.parametrize("said", [DRAINED, "", "cede: no answer"])
def test_a_host_that_was_drained_before_or_is_unknown_is_not_resumed(host: Host, said: str) -> None:
    host.status.write_text(said)
    assert host.sleeps("pre", "suspend") == [ASK, DRAIN]
    assert host.sleeps("post", "suspend") == []


def test_a_second_phase_of_one_sleep_is_still_the_hooks_own(host: Host) -> None:
    host.sleeps("pre", "suspend-then-hibernate")
    host.status.write_text(DRAINED)
    assert host.sleeps("pre", "suspend-then-hibernate") == [DRAIN]
    assert host.sleeps("post", "suspend-then-hibernate") == [RESUME]


def test_a_drain_or_a_resume_that_fails_doesnt_stop_the_other(host: Host) -> None:
    assert host.sleeps("pre", "suspend", fails=1) == [ASK, DRAIN]
    assert host.sleeps("post", "suspend", fails=75) == [RESUME]
    assert not host.own.exists()


def test_any_other_call_does_nothing(host: Host) -> None:
    assert host.sleeps() == []
    assert host.sleeps("else") == []
