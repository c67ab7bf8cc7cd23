"""Commands that only read, over a host in a folder: what it tells is said, and nothing leads out of it."""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from cede.cli import main as command_line
from cede.util import process
from sim.config_spaces import E1000, IGB, INTEGRATED_WIRELESS, SATA
from sim.recorded_tree import small_tree
from sim.sys_tree import write
from unit.test_cli import Shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NIC, DISPLAY, HIDDEN, DISK = (f"0000:0{bus}:00.0" for bus in (1, 2, 3, 4))
COMMANDS = (
    ("doctor", "--json"),
    ("devices", "--json"),
    ("import", "--from-hide"),
    ("boot", "--print"),
    ("status", "--json"),
)
DOCUMENTED = {0, 1, 2, 3, 4, 75}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_tree(tmp_path / "host")
    return tmp_path / "host"


@pytest.fixture
def cede(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Shown]:
    """Runs `cede ARGUMENTS` as the installed command does on this machine, where no program may be run."""

    def ran(*argv: str, **_: Any) -> str:  # noqa: ANN401 - as process.run
        raise AssertionError(argv)

    for name in ("run", "run_apart", "_ended"):
        monkeypatch.setattr(process, name, ran)
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)

    def run(*arguments: str) -> Shown:
        with pytest.raises(SystemExit) as ended:
            command_line.main(arguments)
        assert isinstance(ended.value.code, int)
        captured = capsys.readouterr()
        return Shown(ended.value.code, captured.out, captured.err)

    return run


def findings(shown: Shown) -> dict[str, str]:
    return {one["name"]: one["subject"] for one in shown.json("doctor")["findings"]}


def by_address(shown: Shown) -> dict[str, Any]:
    return {one["address"]: one for one in shown.json("devices")["devices"]}


def looks(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = os.lstat(f"{folder}/{name}")
            found[f"{folder}/{name}"] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def test_the_doctor_examines_the_host_in_the_folder(cede: Callable[..., Shown], root: Path) -> None:
    shown = cede("doctor", "--json", "--root", str(root))
    found = findings(shown)
    assert shown.status == 1
    assert {"iommu-off", "hide-no-device", "not-told"} <= found.keys()
    assert not found.keys() & {"libvirt-down", "xenstore-down", "no-xl", "not-xen"}


def test_devices_are_listed_and_what_is_unknown_is_refused(
    cede: Callable[..., Shown], root: Path
) -> None:
    shown = cede("devices", "--json", "--root", str(root))
    assert shown.status == 0
    rows = by_address(shown)
    assert {at: [use["guard"] for use in row["uses"]] for at, row in rows.items()} == {
        NIC: ["untold"],
        DISPLAY: [],
        HIDDEN: [],
        DISK: ["filesystem"],
    }
    assert {at: row["fitness"]["fit"] for at, row in rows.items()} == {
        NIC: "no",
        DISPLAY: "yes",
        HIDDEN: "no",
        DISK: "no",
    }
    assert rows[HIDDEN]["holder"] == "unknown"
    assert shown.err.count("does not tell") == 3


def test_resets_are_judged_by_configuration_space_and_bridges_and_not_by_the_kernels_word(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    tree, processing = small_tree(tmp_path / "host"), "118000"
    second = tree.sys / "devices/pci0000:80"
    write(tree.sys / f"bus/pci/devices/{DISPLAY}/reset_method", "bus")
    tree.function("0000:02:00.1", class_code="040300", driver="snd_hda_intel", config=E1000)
    for address, method in (("0000:00:1b.0", "device_specific"), ("0000:00:1c.1", "acpi")):
        made = tree.function(address, class_code=processing, driver="dsp", config=SATA)
        write(made / "reset_method", method)
    tree.function("0000:00:1d.0", class_code=processing, config=IGB[:64])
    tree.function("0000:80:14.3", class_code=processing, under=second, config=INTEGRATED_WIRELESS)
    tree.function("0000:80:17.0", class_code="010601", under=second, driver="ahci", config=SATA)
    rows = by_address(cede("devices", "--json", "--root", str(tree.root)))
    assert {at: (row["fitness"]["cause"], row["reset"]) for at, row in rows.items()} | {
        DISPLAY: ("", "pm"),
        "0000:00:1b.0": ("no reset", "none"),
        "0000:00:1c.1": ("no reset", "none"),
        "0000:00:1d.0": ("reset unknown", None),
        "0000:80:14.3": ("on a root bus", "flr"),
    } == {at: (row["fitness"]["cause"], row["reset"]) for at, row in rows.items()}
    assert rows["0000:80:14.3"]["siblings"] == []
    assert "0000:80:17.0" not in rows["0000:80:14.3"]["fitness"]["remedy"]


@pytest.mark.parametrize("lost", ["proc/self/mountinfo", "proc/net/tcp", "proc"])
def test_where_the_hosts_uses_are_unknown_no_device_of_dom0_is_fit(
    cede: Callable[..., Shown], root: Path, lost: str
) -> None:
    path = root / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    rows = by_address(cede("devices", "--json", "--root", str(root)))
    assert {row["fitness"]["fit"] for row in rows.values()} == {"no"}


def test_an_untold_use_is_passed_by_no_override(
    cede: Callable[..., Shown], root: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text((root / "etc/cede/policy.yaml").read_text().replace("03:00.0", "01:00.0"))
    shown = cede("boot", "--print", "--json", "-f", str(policy), "--root", str(root))
    assert [one["rule"] for one in shown.json("boot")["left_out"]] == ["host-needs-it"]
    assert "override" not in shown.json("boot")["left_out"][0]["remedy"]


def test_files_of_the_boot_are_printed_from_the_hosts_own_policy(
    cede: Callable[..., Shown], root: Path
) -> None:
    shown = cede("boot", "--print", "--json", "--root", str(root))
    assert shown.status == 4
    assert shown.json("boot")["devices"] == [HIDDEN]
    assert {"overruled", "no-device"} <= {one["name"] for one in shown.json("boot")["mistakes"]}


def test_what_is_hidden_and_what_domains_have_is_imported(
    cede: Callable[..., Shown], root: Path
) -> None:
    (root / "etc/cede/policy.yaml").unlink()
    hidden = cede("import", "--from-hide", "--json", "--root", str(root)).json("import")
    assert {one["address"] for one in hidden["devices"]} == {HIDDEN, "0000:09:00.0"}
    domains = cede("import", "--from-domains", "--json", "--root", str(root)).json("import")
    assert [(one["device"], one["domain"]) for one in domains["assignments"]] == [
        (domains["devices"][0]["name"], "guest-a")
    ]


def test_the_status_is_that_of_the_files_and_no_guest_has_proved_anything(
    cede: Callable[..., Shown], root: Path
) -> None:
    shown = cede("status", "--json", "--root", str(root))
    conditions = {
        one["type"]: one["status"] for one in shown.json("status")["conditions"] if one["subject"]
    }
    assert shown.status == 4
    assert conditions.keys() == {"Attached", "Persistent", "Verified", "InSync"}
    assert "True" not in {conditions["Verified"], conditions["InSync"]}


def test_domains_that_are_unknown_are_not_none(cede: Callable[..., Shown], root: Path) -> None:
    shutil.rmtree(root / "etc/libvirt")
    for command in (("import", "--from-domains"), ("plan",)):
        shown = cede(*command, "--json", "--root", str(root))
        assert (shown.status, shown.json("error")["error"]["name"]) == (1, "not-told")


@pytest.mark.parametrize(
    "command", [("doctor", "--fix", "--yes"), ("boot",), ("status", "--watch")]
)
def test_a_recorded_host_is_not_changed(
    cede: Callable[..., Shown], root: Path, command: tuple[str, ...]
) -> None:
    before = looks(root)
    shown = cede(*command, "--json", "--root", str(root))
    assert (shown.status, shown.json("error")["error"]["name"]) == (2, "recorded-host")
    assert looks(root) == before


@pytest.mark.parametrize("command", ["apply", "attach", "detach", "release", "drain", "run"])
def test_commands_that_change_something_have_no_root(
    cede: Callable[..., Shown], root: Path, command: str
) -> None:
    shown = cede(command, "--json", "--root", str(root))
    assert shown.json("error")["error"]["name"] == "wrong-command-line"


def test_nothing_is_written_below_the_folder_nor_left_elsewhere(
    cede: Callable[..., Shown], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    before = looks(root)
    for command in COMMANDS:
        cede(*command, "--root", str(root))
    assert looks(root) == before
    assert list(elsewhere.iterdir()) == []


def test_links_lead_to_the_folders_own_files_and_never_out(
    cede: Callable[..., Shown], root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.conf"
    write(outside, "options xen-pciback hide=(0f:00.0)")
    write(root / "srv/inside.conf", "options xen-pciback hide=(0e:00.0)")
    folder = root / "etc/modprobe.d"
    (folder / "a.conf").symlink_to(outside)
    (folder / "b.conf").symlink_to("../../../outside.conf")
    (folder / "c.conf").symlink_to("../" * 40 + str(outside).lstrip("/"))
    (folder / "loop.conf").symlink_to("loop.conf")
    (folder / "d.conf").symlink_to("/srv/inside.conf")
    (root / "etc/here").symlink_to("/etc")
    write(root / "etc/modprobe.d/real", "options xen-pciback hide=(0d:00.0)")
    (folder / "e.conf").symlink_to("../here/../etc/modprobe.d/real")
    os.mkfifo(folder / "pipe.conf")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.conf"))
        shown = cede("import", "--from-hide", "--json", "--root", str(root)).json("import")
    addresses = {one["address"] for one in shown["devices"]}
    assert "0000:0f:00.0" not in addresses
    assert "0000:0d:00.0" in addresses


def test_a_folder_that_is_a_link_out_is_not_entered(
    cede: Callable[..., Shown], root: Path, tmp_path: Path
) -> None:
    other = small_tree(tmp_path / "other")
    other.function("0000:0c:00.0")
    shutil.rmtree(root / "sys")
    (root / "sys").symlink_to(other.sys)
    shown = cede("devices", "--json", "--root", str(root))
    assert (shown.status, shown.json("error")["error"]["name"]) == (1, "not-told")


@pytest.mark.parametrize(
    "said", ["", "{", "[]", '{"version": 2}', '{"version": 1, "uses": 5}', "\x00"]
)
def test_answers_that_cant_be_read_say_nothing(
    cede: Callable[..., Shown], root: Path, said: str
) -> None:
    write(root / "cede/answers.json", said)
    rows = by_address(cede("devices", "--json", "--root", str(root)))
    assert rows[NIC]["uses"][0]["guard"] == "untold"


def test_a_folder_that_isnt_there_is_a_wrong_command_line(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    assert cede("devices", "--root", str(tmp_path / "none")).status == 2
    (tmp_path / "file").write_text("")
    assert cede("devices", "--root", str(tmp_path / "file")).status == 2


def test_a_file_is_called_by_its_place_in_the_folder(
    cede: Callable[..., Shown], root: Path
) -> None:
    policy = root / "etc/cede/policy.yaml"
    policy.write_text(policy.read_text().replace("nic0, domain", "nic1, domain"))
    wrong = cede("boot", "--print", "--json", "--root", str(root))
    assert wrong.status == 2
    assert f"{policy}:" in wrong.json("error")["error"]["message"]
    assert f"{policy}:" in wrong.err
    (policy.parent / "policy.yaml").unlink()
    assert str(policy) in cede("boot", "--print", "--root", str(root)).err


@pytest.mark.parametrize(
    ("lost", "device"),
    [("boot_vga", DISPLAY), ("../../../class", NIC), ("../../../class", DISPLAY)],
)
def test_a_guard_that_cant_be_read_refuses(
    cede: Callable[..., Shown], root: Path, lost: str, device: str
) -> None:
    path = root / "sys/bus/pci/devices" / device / lost
    path = root / "sys/class" if lost.endswith("class") else path
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    rows = by_address(cede("devices", "--json", "--root", str(root)))
    assert [use["guard"] for use in rows[device]["uses"]] == ["untold"]


def test_what_cede_does_not_read_is_not_copied(cede: Callable[..., Shown], root: Path) -> None:
    for path in ("lib/modules/6.1/kernel/big.ko", "var/log/big", "etc/big", "sos_commands/xen/big"):
        write(root / path, "")
        os.truncate(root / path, 1 << 40)
    write(root / "lib/modules/6.1.0-9-arm64/modules.dep", "kernel/drivers/xen/other.ko:")
    found = findings(cede("doctor", "--json", "--root", str(root)))
    assert "pciback-missing" not in found  # it is loaded
    os.truncate(root / "etc/modprobe.d/hide.conf", 1 << 40)
    assert "hide-no-device" not in findings(cede("doctor", "--json", "--root", str(root)))


def test_a_copy_that_has_no_room_is_an_error_of_its_own(
    cede: Callable[..., Shown], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    shown = cede("devices", "--json", "--root", str(root))
    assert (shown.status, shown.json("error")["error"]["name"]) == (1, "no-temporary-folder")


def test_an_empty_folder_tells_nothing_and_nothing_is_said_of_it(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shown = cede("doctor", "--json", "--root", str(tmp_path / "empty"))
    assert findings(shown).keys() <= {"not-told", "log-unreadable"}
    assert {one["severity"] for one in shown.json("doctor")["findings"]} <= {"note", "warning"}


def _damaged(path: Path, *, cut: bool) -> Callable[[], None]:
    """Take the file away, or its second half; returns what brings it back."""
    if path.is_symlink():
        target = path.readlink()
        path.unlink()
        return lambda: path.symlink_to(target)
    said = path.read_bytes()
    path.write_bytes(said[: len(said) // 2]) if cut else path.unlink()

    def restore() -> None:
        path.write_bytes(said)

    return restore


def test_a_tree_may_lack_any_file_or_have_half_of_it(
    cede: Callable[..., Shown], root: Path
) -> None:
    files = [path for path in sorted(root.rglob("*")) if path.is_symlink() or path.is_file()]
    assert len(files) > 40
    for number, path in enumerate(files):
        for cut in (False, True):
            restore = _damaged(path, cut=cut)
            command = COMMANDS[(2 * number + cut) % len(COMMANDS)]
            shown = cede(*command, "--root", str(root))
            assert shown.status in DOCUMENTED, (path, cut, command, shown)
            assert "Traceback" not in shown.err
            assert "unexpected" not in shown.out, (path, cut, command, shown)
            restore()
            if path.is_symlink():
                break
