"""`cede report`: whose host it is can't be told from it, and the host is examined from it as it was."""

from __future__ import annotations

import json
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from cede.cli import main as command_line
from cede.errors import UnreachableError
from cede.model.pci import Address, Link
from cede.services.replacements import Replacements
from sim.config_spaces import E1000E
from sim.sys_tree import link, write
from unit import test_cli
from unit.test_cli import Shown
from unit.test_doctor_command import findings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

cede, policy = test_cli.cede, test_cli.policy
SECRETS = {
    "mac": "3c:fd:fe:12:34:56",
    "bare mac": "3cfdfe123456",
    "serial": "3c-fd-fe-ff-ff-9a-bc-de",
    "host": "vault7",
    "domain": "customer-mail",
    "address": "203.0.113.77",
    "address 6": "2a02:1234:5678::77",
    "uuid": "8d5e2b4c-1111-4222-8333-9abcdef01234",
    "vnc": "hunter2vnc",
    "password": "correct-horse",
    "disk": "S3Z9NB0K123456",
    "path": "acme-ltd",
    "title": "Payroll of the city",
}
DEFINITION = """\
<domain type='xen'>
  <name>{domain}</name>
  <uuid>{uuid}</uuid>
  <title>{title}</title>
  <description>
    {title}
  </description>
  <devices>
    <disk type='file'><source file='/srv/{path}/a.img'/></disk>
    <graphics type='vnc' passwd='{vnc}' listen='{address}'/>
    <interface type='bridge'><mac address='{mac}'/></interface>
  </devices>
</domain>"""
XL_CFG = """\
name = "{domain}"
vncpasswd = "{vnc}"
vif = ['mac={mac},ip={address}']
disk = ['phy:/dev/{path}/root,xvda,w', 'target=/srv/{path}/b.img, vdev=xvdb']
vfb = ['vnc=1,vncpasswd={vnc}']"""
PORT = "PCI_CLASS=60400\nPCI_ID=1B36:000C"
SERIAL = bytes.fromhex(SECRETS["serial"].replace("-", ""))[::-1]


@pytest.fixture
def known(host: SimulatedHost) -> SimulatedHost:
    """A host of which every file says whose it is."""
    root, tree = host.paths.root, host.tree
    host.guest(SECRETS["domain"], 7)
    tree.slots()
    card = tree.sys / "bus/pci/devices/0000:01:00.0"
    (card / "config").write_bytes(E1000E + bytes.fromhex("03000100") + SERIAL)
    nic = host.cards[Address.parse("0000:01:00.0")]
    nic.links = (Link(name="enx3cfdfe123456", mac=SECRETS["mac"], up=True, mtu=1500),)
    write(root / "etc/hostname", f"{SECRETS['host']}.example.net")
    write(root / "proc/cmdline", f"root=UUID={SECRETS['uuid']} ip={SECRETS['address']}::")
    write(root / f"etc/libvirt/libxl/{SECRETS['domain']}.xml", DEFINITION.format_map(SECRETS))
    write(root / "etc/xen/a.cfg", XL_CFG.format_map(SECRETS))
    write(root / "etc/cede/secret", SECRETS["password"])
    host.kernel_said += [
        f"e1000e 0000:01:00.0 eth0: (PCI Express:2.5GT/s:Width x1) {SECRETS['mac']}",
        f"systemd[1]: Hostname set to <{SECRETS['host']}>.",
        f"usb 1-1: SerialNumber: {SECRETS['disk']}",
        f"nfs: server {SECRETS['address 6']} not responding",
    ]
    return host


def unpacked(path: Path, to: Path) -> Path:
    with tarfile.open(path) as tar:
        assert all(one.mode == (0o700 if one.isdir() else 0o600) for one in tar.getmembers())
        # Debian 12's Python may not have it, and 3.14 wants it
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        tar.extractall(to)  # noqa: S202 - cede's own
    return to / "cede-report"


def replay(capsys: pytest.CaptureFixture[str], tree: Path, *arguments: str) -> Shown:
    with pytest.raises(SystemExit) as ended:
        command_line.main([*arguments, "--root", str(tree)])
    captured = capsys.readouterr()
    return Shown(int(ended.value.code or 0), captured.out, captured.err)


def test_nothing_of_the_originals_is_in_the_report(
    cede: Callable[..., Shown], known: SimulatedHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.tar.gz"
    assert cede("report", "-o", str(path), on=None).status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tree = unpacked(path, tmp_path / "there")
    files = [one for one in tree.rglob("*") if one.is_file() and not one.is_symlink()]
    assert len(files) > 15
    said = b"".join(one.read_bytes() for one in files).lower()
    said += "\n".join(str(one.relative_to(tree)) for one in tree.rglob("*")).lower().encode()
    assert [what for what, secret in SECRETS.items() if secret.lower().encode() in said] == []
    assert SERIAL not in said
    assert b"0000:01:00.0" in said
    assert known.journal == []


def test_the_same_is_replaced_by_the_same(
    cede: Callable[..., Shown], known: SimulatedHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.tar.gz"
    cede("report", "-o", str(path), on=None)
    tree = unpacked(path, tmp_path / "there")
    (name,) = (tree / "etc/libvirt/libxl").iterdir()
    assert f"<name>{name.stem}</name>" in name.read_text()
    assert name.stem in (tree / "etc/xen/a.cfg").read_text()
    assert f'"name": "{name.stem}"' in (tree / "cede/answers.json").read_text()
    mac = next((tree / "sys/class/net").iterdir()).name.removeprefix("enx")
    assert mac.startswith("02")
    assert (
        ":".join(mac[at : at + 2] for at in range(0, 12, 2)) in (tree / "var/log/dmesg").read_text()
    )
    assert known.journal == []


@pytest.mark.parametrize("down", ["nothing", "libvirt", "passthrough"])
def test_the_doctor_finds_in_the_report_what_it_finds_on_the_host(
    cede: Callable[..., Shown],
    known: SimulatedHost,
    tmp_path: Path,
    down: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if down == "libvirt":
        known.silent = UnreachableError("no socket")
    if down == "passthrough":
        known.guest("pv9", 9, features="")
    here = cede("doctor", "--json", on=None)
    path = tmp_path / "out.tar.gz"
    cede("report", "-o", str(path), on=None)
    tree = unpacked(path, tmp_path / "there")
    there = replay(capsys, tree, "doctor", "--json")
    assert [one[:2] for one in findings(there)] == [one[:2] for one in findings(here)]
    assert there.status == here.status


def test_devices_are_the_same_in_the_report(
    cede: Callable[..., Shown],
    known: SimulatedHost,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, port = tmp_path / "out.tar.gz", "0000:00:1c.0"
    write(known.tree.sys / "devices/pci0000:00" / port / "uevent", PORT)
    link(known.tree.sys / "bus/pci/devices" / port, known.tree.sys / "devices/pci0000:00" / port)
    cede("apply", "--yes")
    here = cede("devices", "--json", on=None).json("devices")["devices"]
    cede("report", "-o", str(path), on=None)
    shown = replay(capsys, unpacked(path, tmp_path / "there"), "devices", "--json")
    there = shown.json("devices")["devices"]
    kept = ("address", "driver", "path", "identity")
    assert [[one[key] for key in kept] for one in there] == [
        [one[key] for key in kept] for one in here
    ]
    assert [one["fitness"]["fit"] for one in there] == [one["fitness"]["fit"] for one in here]
    assert [one["reset"] for one in there] == [None, "pm", "pm"]
    assert there[1]["holder"].startswith("guest-")
    assert here[1]["holder"] == "pv1"
    assert shown.err == ""
    assert known.guests["pv1"].domain.live


def test_devices_of_a_host_whose_libvirt_was_silent_are_listed_as_far_as_known(
    cede: Callable[..., Shown],
    known: SimulatedHost,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known.silent = UnreachableError("no socket")
    path = tmp_path / "out.tar.gz"
    assert cede("report", "-o", str(path), on=None).status == 0
    tree = unpacked(path, tmp_path / "there")
    shown = replay(capsys, tree, "devices", "--json")
    assert [one["address"] for one in shown.json("devices")["devices"]] == sorted(
        map(str, known.cards)
    )
    assert "domains" in shown.err
    write(tree / "etc/cede/policy.yaml", test_cli.POLICY)
    assert replay(capsys, tree, "plan").status == 75


def test_a_report_does_not_overwrite_and_follows_no_link(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    path = tmp_path / "out.tar.gz"
    path.write_text("mine")
    assert cede("report", "-o", str(path), on=None).status == 2
    assert path.read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert cede("report", "-o", str(tmp_path / "link"), on=None).status == 2
    assert not (tmp_path / "target").exists()


def test_answers_alone_are_printed_for_sos_as_they_are(
    cede: Callable[..., Shown], known: SimulatedHost
) -> None:
    shown = cede("report", "--answers", on=None)
    assert shown.status == 0
    assert SECRETS["domain"] in [one["name"] for one in json.loads(shown.out)["domains"]]
    assert known.journal == []


@pytest.mark.parametrize(
    "kept",
    [
        "0000:01:00.0 0000:80:14.3 pci_0000_01_00_0",
        "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff",
        "127.0.0.1 0.0.0.0 ::1 ::",
        "hide=(0000:01:00.0)(02:00.*) 12:34:56",
        "xen-pciback linux 6.1.0-9-amd64",
    ],
)
def test_what_tells_nothing_of_whose_host_it_is_stays(kept: str) -> None:
    replacements = Replacements()
    replacements.learn_name("xen", "guest")
    replacements.learn(kept)
    assert replacements.replaced(kept) == kept


def test_a_replacement_is_never_another_original() -> None:
    text = "198.18.0.1 10.0.0.1 198.18.0.2 2001:db8::1 fe80::1 02:00:00:00:00:01 02:00:00:00:00:02"
    replacements = Replacements()
    replacements.learn(text)
    replaced = replacements.replaced(text).split()
    assert len(set(replaced)) == len(replaced)
    assert not set(replaced) & set(text.split())


def test_a_guest_whose_name_is_a_word_of_the_field_is_replaced_where_it_is_named() -> None:
    replacements = Replacements()
    for name in ("xen", "101"):
        replacements.learn_name(name, "guest")
    said = "<domain type='xen'><name>xen</name></domain> etc/xen/101.cfg vlan 101 xen-pciback"
    assert replacements.replaced(said) == (
        "<domain type='xen'><name>guest-1</name></domain> etc/xen/guest-2.cfg vlan 101 xen-pciback"
    )


def test_a_report_may_lack_any_file_or_have_half_of_it(
    cede: Callable[..., Shown],
    known: SimulatedHost,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "out.tar.gz"
    cede("report", "-o", str(path), on=None)
    tree = unpacked(path, tmp_path / "there")
    for number, file in enumerate(one for one in tree.rglob("*") if one.is_file()):
        said = file.read_bytes()
        for command in (("doctor", "--json"), ("devices", "--json"))[number % 2 :][:1]:
            file.write_bytes(said[: len(said) * number // 20 % len(said)] if said else b"")
            assert replay(capsys, tree, *command).status in {0, 1, 4}, file
            file.write_bytes(said)
    assert known.journal == []


@pytest.mark.parametrize(
    "said",
    [
        "vncpasswd = 'hunter2'",
        'spicepasswd="hunter2"',
        '"passwd": "hunter2"',
        "<graphics type='vnc' passwd = 'hunter2'/>",
        "vfb = ['type=vnc,vncpasswd=hunter2,keymap=de']",
        "<password>hunter2</password>",
        "rd.luks.key=hunter2",
        "console: http://somebody:hunter2@example.net/",
        "rd.iscsi.password=hunter2",
    ],
)
def test_passwords_are_removed(said: str) -> None:
    assert "hunter2" not in Replacements().replaced(said)


@pytest.mark.parametrize(
    "said",
    [
        "etc/cede/policy.yaml: password_file: /etc/cede/pv1.password",
        "options xen-pciback hide=(0000:01:00.0) permissive=1",
        "keymap = 'de'",
    ],
)
def test_what_is_no_password_stays(said: str) -> None:
    assert Replacements().replaced(said) == said
