"""The benchmark's scripts of virsh and xl, on a dom0 of a few fake programs with a guest's console."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from unit.fake_dom0 import ADDRESS, DOMAIN, DRIVER, FakeDom0

FOLDER = Path(__file__).parents[2] / "contrib/xenbench/scripts"
COMMON = f'. "{FOLDER}/common.sh"; '
WORDS = (DOMAIN, ADDRESS, DRIVER)
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


@pytest.fixture
def dom0(tmp_path: Path) -> FakeDom0:
    return FakeDom0(tmp_path)


def bash(dom0: FakeDom0, script: str) -> str:
    done = dom0.run(COMMON + script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def succeed(dom0: FakeDom0, script: str) -> None:
    done = dom0.run(FOLDER / f"{script}.sh", *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_script_has_no_error_of_syntax(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_address_is_written_as_libvirt_writes_it(dom0: FakeDom0) -> None:
    said = bash(dom0, "node_device 0000:0a:1f.7; source_address 0000:0a:1f.7")
    assert said.splitlines() == [
        "pci_0000_0a_1f_7",
        "<address domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'/>",
    ]


@pytest.mark.parametrize(
    ("attach", "holders", "release"),
    [
        ("attach_virsh", {"live", "config"}, "release_virsh"),
        ("attach_plain_virsh", {"live", "config"}, "release_virsh"),
        ("attach_xl", {"by-xl"}, "release_xl"),
    ],
)
def test_device_is_given_and_returned(
    dom0: FakeDom0, attach: str, holders: set[str], release: str
) -> None:
    succeed(dom0, attach)
    assert (dom0.driver, dom0.holders) == ("pciback", holders)
    succeed(dom0, release)
    assert (dom0.driver, dom0.holders) == (DRIVER, set())


@pytest.mark.parametrize("attach", ["attach_virsh", "attach_xl"])
def test_attach_to_a_guest_that_does_not_drive_the_device_fails(
    dom0: FakeDom0, attach: str, tmp_path: Path
) -> None:
    dom0.without_driver_in_guest()
    impatient = tmp_path / f"{attach}.sh"
    impatient.write_text(
        (FOLDER / impatient.name).read_text().replace("\ndomain=", "\nseconds=1\ndomain=")
    )
    (tmp_path / "common.sh").symlink_to(FOLDER / "common.sh")
    done = dom0.run(impatient, *WORDS)
    assert done.returncode == 1
    assert "does not drive" in done.stderr


@pytest.mark.parametrize("attach", ["attach_virsh", "attach_xl"])
def test_device_is_given_back_whoever_gave_it(dom0: FakeDom0, attach: str) -> None:
    succeed(dom0, attach)
    succeed(dom0, "give_back")
    assert (dom0.driver, dom0.holders) == (DRIVER, set())


def test_device_that_was_only_bound_is_given_back_and_cede_is_asked_first(dom0: FakeDom0) -> None:
    bash(dom0, f"virsh nodedev-detach {ADDRESS}")
    succeed(dom0, "give_back")
    assert (dom0.driver, dom0.holders) == (DRIVER, set())
    assert f"cede release {ADDRESS}" in dom0.said


def test_device_that_is_back_is_left_alone(dom0: FakeDom0) -> None:
    succeed(dom0, "give_back")
    assert all(line.startswith("virsh dumpxml") for line in dom0.said)


def test_each_is_given_one_after_another(dom0: FakeDom0) -> None:
    done = dom0.run(FOLDER / "each.sh", "attach_plain_virsh.sh", *WORDS, *WORDS)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("virsh attach-device") for line in dom0.said) == 2


@pytest.mark.parametrize(("hvm", "slot"), [("false", "0000:00:01.0"), ("true", "03.2")])
def test_device_is_found_in_the_backend_and_where_the_guest_has_it(
    dom0: FakeDom0, hvm: str, slot: str
) -> None:
    script = f"{XENSTORE} is_hvm() {{ {hvm}; }}; connected 0000:01:00.0; echo $number; guest_slot"
    assert bash(dom0, script).splitlines() == ["1", slot]


def test_device_that_is_not_in_the_backend_is_not_connected(dom0: FakeDom0) -> None:
    assert bash(dom0, f"{XENSTORE} connected 0000:05:00.0 || echo no") == "no\n"


@pytest.mark.parametrize(("hvm", "said"), [("true", "yes"), ("false", "no")])
def test_backend_that_only_waits_is_connected_for_an_hvm_guest_alone(
    dom0: FakeDom0, hvm: str, said: str
) -> None:
    waiting = XENSTORE.replace('/0/state = "4"', '/0/state = "3"')
    script = f"is_hvm() {{ {hvm}; }}; if connected 0000:01:00.0; then echo yes; else echo no; fi"
    assert bash(dom0, waiting + script) == f"{said}\n"


def test_guest_that_is_still_connecting_keeps_its_device(dom0: FakeDom0) -> None:
    """Xen's backend is connected before the guest is; the device is taken from neither."""
    succeed(dom0, "attach_plain_virsh")
    done = dom0.run(
        f"set -- {' '.join(WORDS)}; export GUEST_STATE=3; sleep() {{ SECONDS=99; }};"
        f" BASH_ARGV0={FOLDER}/release_virsh.sh; . {FOLDER}/release_virsh.sh"
    )
    assert done.returncode == 1
    assert "has not connected" in done.stderr
    assert not any("detach-device" in line for line in dom0.said)


def test_guest_is_asked_at_its_prompt_and_what_it_says_is_told_from_what_was_typed(
    dom0: FakeDom0,
) -> None:
    script = f"open_console {dom0.console}; ask_guest 'echo one; echo two'; ask_guest 'echo three'"
    lines = bash(dom0, script).splitlines()
    assert [line for line in lines if line and "echo" not in line and "#" not in line] == [
        "one",
        "two",
        "three",
    ]


def test_guest_without_a_prompt_is_an_error(dom0: FakeDom0) -> None:
    _, terminal = pty.openpty()
    done = dom0.run(f"{COMMON} seconds=0.2; open_console {os.ttyname(terminal)}; ask_guest true")
    assert done.returncode == 1
    assert "prompt" in done.stderr
