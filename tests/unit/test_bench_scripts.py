"""The benchmark's scripts of virsh and xl: their syntax, and how they talk to a guest's console."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
import tty
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "contrib/xenbench/scripts"
COMMON = f'. "{FOLDER}/common.sh"; '


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_script_has_no_error_of_syntax(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    assert checked.returncode == 0


def bash(script: str) -> str:
    done = subprocess.run(
        ["bash", "-c", COMMON + script], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_address_is_written_as_libvirt_writes_it() -> None:
    assert bash("node_device 0000:0a:1f.7; source_address 0000:0a:1f.7").splitlines() == [
        "pci_0000_0a_1f_7",
        "<address domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'/>",
    ]


NODES = """\
/local/domain/0/backend/pci/3/0/state = "4"
/local/domain/0/backend/pci/3/0/dev-0 = "0000:04:00.0"
/local/domain/0/backend/pci/3/0/vdev-0 = "0000:00:00.00"
/local/domain/0/backend/pci/3/0/state-0 = "3"
/local/domain/0/backend/pci/3/0/dev-1 = "0000:01:00.0"
/local/domain/0/backend/pci/3/0/vdev-1 = "0000:00:01.00"
/local/domain/0/backend/pci/3/0/vdevfn-1 = "1a"
/local/domain/0/backend/pci/3/0/state-1 = "3"
"""
XENSTORE = f"domid=3; xenstore-ls() {{ cat <<'NODES'\n{NODES}NODES\n}}; "


@pytest.mark.parametrize(("hvm", "slot"), [("false", "0000:00:01.0"), ("true", "03.2")])
def test_device_is_found_in_the_backend_and_where_the_guest_has_it(hvm: str, slot: str) -> None:
    found = bash(
        f"{XENSTORE} is_hvm() {{ {hvm}; }}; connected 0000:01:00.0; echo $number; guest_slot"
    )
    assert found.splitlines() == ["1", slot]


def test_device_that_is_not_in_the_backend_is_not_connected() -> None:
    assert bash(f"{XENSTORE} connected 0000:05:00.0 || echo no") == "no\n"


def test_backend_that_only_waits_is_connected_for_an_hvm_guest_alone() -> None:
    waiting = XENSTORE.replace('/0/state = "4"', '/0/state = "3"')
    for hvm, said in (("true", "yes"), ("false", "no")):
        script = (
            f"is_hvm() {{ {hvm}; }}; if connected 0000:01:00.0; then echo yes; else echo no; fi"
        )
        assert bash(waiting + script) == f"{said}\n"


def play_guest(terminal: int) -> None:
    """A shell at the other end of a console: echoes, shows its prompt, and runs what is typed."""
    typed = b""
    while True:
        try:
            new = os.read(terminal, 1024)
        except OSError:
            return
        os.write(terminal, new.replace(b"\r", b"\r\n"))
        typed += new
        while b"\r" in typed:
            line, _, typed = typed.partition(b"\r")
            done = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
            os.write(terminal, done.stdout.replace(b"\n", b"\r\n") + b"pv1:~# \x1b[6n")


@pytest.fixture
def console() -> str:
    """A console with a guest at its other end."""
    guest, dom0 = pty.openpty()
    tty.setraw(dom0)
    threading.Thread(target=play_guest, args=(guest,), daemon=True).start()
    return os.ttyname(dom0)


def test_guest_is_asked_at_its_prompt_and_what_it_says_is_told_from_what_was_typed(
    console: str,
) -> None:
    asked = f"open_console {console}; ask_guest 'echo one; echo two'; ask_guest 'echo three'"
    said = [line for line in bash(asked).splitlines() if not re.search(r"echo|# ?$", line)]
    assert [line for line in said if line] == ["one", "two", "three"]


def test_guest_without_a_prompt_is_an_error() -> None:
    _, dom0 = pty.openpty()
    script = f"{COMMON} seconds=0.2; open_console {os.ttyname(dom0)}; ask_guest true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "prompt" in done.stderr
