"""The benchmark on a host of one's own: what it refuses, and that it asks."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from xenbench import cli, here
from xenbench.courses import Given, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NIC = "0000:01:00.0"


@pytest.fixture
def sys_folder(tmp_path: Path) -> Path:
    device = tmp_path / "bus/pci/devices" / NIC
    (device / "net/eth0").mkdir(parents=True)
    (device / "net/eth0/flags").write_text("0x1002\n")
    (device / "driver").symlink_to("../../../bus/pci/drivers/e1000e")
    return tmp_path


def answers(stdout: str, status: int = 0) -> here.Run:
    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(list(argv), status, stdout, "")

    return run


RUNNING = answers("running\n")


def test_idle_device_goes_to_a_running_domain(sys_folder: Path) -> None:
    found = here.given([NIC], ["ace2x1", "other"], run=RUNNING, sys_folder=sys_folder)
    assert found == (Given(device=NIC, domain="ace2x1", driver="e1000e"),)


def test_device_whose_interface_is_up_is_refused(sys_folder: Path) -> None:
    (sys_folder / "bus/pci/devices" / NIC / "net/eth0/flags").write_text("0x1003\n")
    with pytest.raises(here.NotHereError, match="eth0"):
        here.given([NIC], ["ace2x1"], run=RUNNING, sys_folder=sys_folder)


def test_device_on_pciback_is_refused(sys_folder: Path) -> None:
    driver = sys_folder / "bus/pci/devices" / NIC / "driver"
    driver.unlink()
    driver.symlink_to("../../../bus/pci/drivers/pciback")
    with pytest.raises(here.NotHereError, match="pciback"):
        here.given([NIC], ["ace2x1"], run=RUNNING, sys_folder=sys_folder)


def test_device_that_is_not_there_is_refused(sys_folder: Path) -> None:
    with pytest.raises(here.NotHereError, match="no device"):
        here.given(["0000:02:00.0"], ["ace2x1"], run=RUNNING, sys_folder=sys_folder)


def test_domain_that_does_not_run_is_refused(sys_folder: Path) -> None:
    with pytest.raises(here.NotHereError, match="does not run"):
        here.given([NIC], ["ace2x1"], run=answers("shut off\n"), sys_folder=sys_folder)


def test_what_cede_would_refuse_is_refused_with_its_words() -> None:
    given = (Given(device=NIC, domain="ace2x1", driver="e1000e"),)
    with here.setting(given, asks_guest=True) as setting:
        with pytest.raises(here.NotHereError, match="holds /"):
            here.refuse_unfit(setting, run=answers("refused: which holds /", 3))
        here.refuse_unfit(setting, run=answers("", 4))


def test_nothing_of_it_is_left_in_the_file_system() -> None:
    given = (Given(device=NIC, domain="ace2x1", driver="e1000e"),)
    with here.setting(given, asks_guest=True) as setting:
        folder = setting.folder
        assert (
            subprocess.run(["test", "-f", setting.script("common")[1]], check=False).returncode == 0
        )
    assert subprocess.run(["test", "-e", folder], check=False).returncode == 1


def test_question_names_each_device_and_its_domain() -> None:
    given = (Given(device=NIC, domain="ace2x1", driver="e1000e"),)
    asked = here.question(Setting(given=given, folder="/x"), 5)
    assert NIC in asked
    assert "ace2x1" in asked


@pytest.mark.parametrize(("answer", "agreed"), [("yes\n", True), ("y", False), ("", False)])
def test_only_a_yes_is_a_yes(answer: str, agreed: bool) -> None:
    assert cli.confirmed("begin? ", lambda _: answer) is agreed


def test_end_of_the_input_is_no_yes() -> None:
    def ended(_: str) -> str:
        raise EOFError

    assert cli.confirmed("begin? ", ended) is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", NIC],
        ["--here", "--readme"],
        ["--readme", "--only", "version"],
        ["--rounds", "0"],
    ],
)
def test_command_line_that_makes_no_sense_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
