"""`cede import` over a simulated host: what it reads, where it writes, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.domain_xml import document
from cede.errors import UnreachableError
from cede.model.pci import Address
from cede.policy import policy_files
from sim.config_spaces import E1000
from unit.test_cli import NIC, POLICY, Shown, cede, policy

if TYPE_CHECKING:
    from sim.in_files import SimulatedHost

    Cede = Callable[..., Shown]


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "pv1.cfg"
    path.write_text("name = 'pv1'\npci = ['01:00.0,permissive=1']\n")
    return path


def test_a_file_is_imported_planned_and_applied(
    cede: Cede,
    cfg: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "new.yaml"
    done = cede("import", str(cfg), "-o", str(out), on=None)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{out}: 1 devices, 1 ")
    assert 'expect: {vendor: "8086", device: "10d3"}' in out.read_text()
    assert "82574L Gigabit Network Connection" in out.read_text()  # from pci.ids
    assert out.stat().st_mode & 0o777 == 0o644
    planned = cede("plan", "--json", on=out).json("plan")["plan"]
    assert [action["action"] for action in planned["decisions"][0]["actions"]][
        -1
    ] == "add-to-config"


def test_on_standard_output_there_is_the_policy_and_nothing_else(cede: Cede, cfg: Path) -> None:
    done = cede("import", str(cfg), on=None)
    parsed = policy_files.parse(done.out, "out")
    assert [(a.device, a.domain, a.permissive) for a in parsed.assignments] == [
        ("nic-01-00-0", "pv1", True)
    ]


def test_json_reports_the_same_and_holds_the_text(cede: Cede, cfg: Path) -> None:
    said = cede("import", str(cfg), "--json", on=None).json("import")
    assert said["policy"] == cede("import", str(cfg), on=None).out
    assert [a["origins"] for a in said["assignments"]] == [[f"{cfg}:2:8"]]


def test_files_need_no_libvirt_and_domains_do(
    cede: Cede,
    cfg: Path,
    host: SimulatedHost,
) -> None:
    host.silent = UnreachableError("libvirt doesn't answer")
    assert cede("import", str(cfg), "--hide", "(02:00.0)", on=None).status == 0
    assert cede("import", "--from-domains", on=None).status == 75


def test_a_hostdev_of_a_domain_is_adopted_by_the_next_apply_and_nothing_else_is_done(
    cede: Cede,
    host: SimulatedHost,
    tmp_path: Path,
) -> None:
    host.happens(f"virsh-attach {NIC} in pv1")
    guest = host.guests["pv1"]
    guest.config = guest.config.replace("hostdev0", "ua-mine")
    guest.live = (guest.live or "").replace("hostdev0", "ua-mine")
    out = tmp_path / "new.yaml"
    for option in (("--from-domains",), ("--from-domain", "pv1", "--force")):
        assert cede("import", *option, "-o", str(out), on=None).status == 0
        assert "adopt: true" in out.read_text()
    planned = cede("plan", "--json", on=out).json("plan")["plan"]
    assert [action["action"] for action in planned["decisions"][0]["actions"]] == ["adopt"]
    applied = cede("apply", "--yes", on=out)
    assert applied.status == 0, applied.out
    assert not any(
        action_name.split()[0] in {"plug", "unplug", "bind_to_pciback", "reattach"}
        for action_name in host.journal
    )
    assert cede("plan", on=out).status == 0
    again = cede("import", "--from-domains", "--json", on=None).json("import")
    assert again["devices"] == []
    assert [NIC in note for note in again["notes"]] == [True]


def test_what_is_hidden_is_taken_from_the_command_line_and_modprobe(
    cede: Cede,
    host: SimulatedHost,
) -> None:
    root = host.tree.sys.parent
    (root / "proc").mkdir(exist_ok=True)
    assert policy_files.parse(cede("import", "--from-hide", on=None).out, "out").devices == ()
    (root / "proc/cmdline").write_text("ro xen-pciback.hide=(01:00.0)\n")
    (root / "etc/modprobe.d").mkdir(parents=True)
    (root / "etc/modprobe.d/xen.conf").write_text("options xen-pciback hide=(03:00.0)(oops)\n")
    said = cede("import", "--from-hide", "--json", on=None).json("import")
    assert [(d["address"], d["identity"] is None) for d in said["devices"]] == [
        (NIC, False),
        ("0000:03:00.0", True),
    ]
    assert said["assignments"] == []
    assert "'(oops)'" in said["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--from-domains"),
        (("missing.cfg",), "missing.cfg"),
        (("--from-domain", "nobody"), "nobody"),
        (("--hide", "(01:00.0)", "-o", "/nowhere/at/all.yaml"), "/nowhere/at/all.yaml"),
    ],
)
def test_a_wrong_command_line_is_reported(
    cede: Cede, arguments: tuple[str, ...], named: str
) -> None:
    done = cede("import", *arguments, on=None)
    assert (done.status, done.out) == (2, "")
    assert named in done.err


def test_a_wrong_file_is_reported_with_its_places_and_nothing_is_written(
    cede: Cede,
    tmp_path: Path,
) -> None:
    bad, out = tmp_path / "bad.cfg", tmp_path / "new.yaml"
    bad.write_text("name = 'g'\npci = ['01:00.0,permisive=1']\nimport os\n")
    done = cede("import", str(bad), "-o", str(out), on=None)
    assert done.status == 2
    assert f"{bad}:2:8: " in done.err
    assert "'permisive'" in done.err
    assert f"{bad}:3:8: 'os'" in done.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bad.cfg", "name = 'g'\npci = ['01:00.0,permisive=1']\n"),
        ("nameless.cfg", "name = ''\npci = ['01:00.0']\n"),
        ("rung.cfg", "name = 'g\a'\npci = ['01:00.0']\n"),
        ("huge.cfg", "#" * 300_000),
        ("missing.cfg", None),
    ],
)
def test_one_wrong_file_of_several_is_reported_and_the_others_are_imported(
    cede: Cede, cfg: Path, tmp_path: Path, file: str, text: str | None
) -> None:
    bad, out = tmp_path / file, tmp_path / "new.yaml"
    if text is not None:
        bad.write_text(text)
    done = cede("import", str(bad), str(cfg), "-o", str(out), on=None)
    assert (done.status, str(bad) in done.err) == (1, True)
    (assignment,) = policy_files.parse(out.read_text(), "out").assignments
    assert assignment.domain == "pv1"
    assert str(bad) not in out.read_text()
    said = cede("import", str(bad), str(cfg), "--json", on=None).json("import")
    assert (said["exit"], len(said["devices"]), len(said["errors"])) == (1, 1, 1)
    assert cede("import", str(bad), "--hide", "(01:00.0)", on=None).status == 1
    alone = cede("import", str(bad), str(tmp_path / "none.cfg"), on=None)
    assert (alone.status, alone.out, str(bad) in alone.err) == (2, "", True)
    assert "none.cfg" in alone.err


def test_what_is_on_pciback_now_is_proposed_whoever_put_it_there(
    cede: Cede, host: SimulatedHost
) -> None:
    none = cede("import", "--from-pciback", "--json", on=None).json("import")
    assert none["devices"] == []
    host.card("0000:04:00.0")
    host.tree.function("0000:05:00.0", driver="pciback")
    said = cede("import", "--from-pciback", "--json", on=None).json("import")
    assert [(d["address"], d["identity"] is None) for d in said["devices"]] == [
        ("0000:05:00.0", False)
    ]
    assert said["assignments"] == []


def test_a_bridge_is_never_imported(cede: Cede, host: SimulatedHost, tmp_path: Path) -> None:
    codes = {"0000:00:00.0": "060000", "0000:00:01.0": "060400", "0000:00:1f.0": "060100"}
    for address, code in codes.items():
        host.tree.function(address, class_code=code, driver="pciback")
    bridges = "(00:00.0)(00:01.0)(00:1f.0)"
    file = tmp_path / "g.cfg"
    file.write_text("name = 'g'\npci = ['00:00.0', '00:01.0', '00:1f.0', '01:00.0']\n")
    sources = (
        ("--hide", f"{bridges}(01:00.0)"),
        ("--from-pciback", "--hide", "(01:00.0)"),
        (str(file),),
    )
    for source in sources:
        said = cede("import", *source, "--json", on=None).json("import")
        assert [device["address"] for device in said["devices"]] == [NIC]
        for address in codes:
            assert any(address in note and "bridge" in note for note in said["notes"])


def test_what_hides_nothing_is_imported_from_no_setting_and_reported(
    cede: Cede, host: SimulatedHost
) -> None:
    root = host.tree.sys.parent
    for path, text in {
        "proc/cmdline": "ro rd.qubes.hide_pci=02:00.0 xen-pciback.hide=(01:00.0)  (03:00.0)\n",
        "etc/modules": "xen-pciback hide=(04:00.0)\n",
        "etc/modprobe.d/xen.conf": "options pciback hide=(05:00.0)\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    said = cede("import", "--from-hide", "--json", on=None).json("import")
    assert [device["address"] for device in said["devices"]] == [NIC]
    for place in ("rd.qubes.hide_pci=", "/etc/modules", "/etc/modprobe.d/xen.conf", "(03:00.0)"):
        assert any(place in note for note in said["notes"]), place


def test_no_policy_is_made_of_a_guest_with_an_empty_name(cede: Cede, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cfg"
    bad.write_text("name = ''\npci = ['01:00.0']\n")
    done = cede("import", str(bad), on=None)
    assert (done.status, done.out) == (2, "")


def test_the_folder_of_the_policy_is_made_where_only_that_is_missing(
    cede: Cede, cfg: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cede/policy.yaml"
    assert cede("import", str(cfg), "-o", str(out), on=None).status == 0
    assert out.is_file()


def test_a_file_that_is_there_is_kept_unless_forced(cede: Cede, cfg: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("precious")
    kept = cede("import", str(cfg), "-o", str(out), on=None)
    assert (kept.status, "--force" in kept.err, out.read_text()) == (2, True, "precious")
    assert cede("import", str(cfg), "-o", str(out), "--force", on=None).status == 0
    assert "version: 1" in out.read_text()
    assert list(tmp_path.glob(".*.new")) == []


def test_an_existing_policy_is_read_and_not_edited(
    cede: Cede,
    cfg: Path,
    policy: Path,
) -> None:
    beside = cede("import", str(cfg), on=policy)
    assert "# - 0000:01:00.0" in beside.out
    assert policy_files.parse(beside.out, "out").devices == ()
    assert policy.read_text() == POLICY
    replaced = cede("import", str(cfg), "-o", str(policy), "--force", on=policy)
    assert (replaced.status, "1 devices" in replaced.out) == (0, True)


def test_the_devices_command_reports_all_of_the_one_that_is_named(
    cede: Cede,
    host: SimulatedHost,
) -> None:
    host.card("0000:01:00.1")
    for address in (NIC, "0000:01:00.1"):
        (host.tree.sys / f"bus/pci/devices/{address}/config").write_bytes(E1000)
    shown = cede("devices", "01:00.0")
    assert shown.out.startswith(
        f"{NIC}  Ethernet controller: Intel Corporation 82574L Gigabit Network Connection [8086:10d3]\n"
    )
    details = dict(line.split(None, 1) for line in shown.out.splitlines()[1:])
    assert "0000:01:00.1" in details["fit"]
    assert details["siblings"] == "0000:01:00.1"
    assert "0000:01:00.1  Ethernet" not in shown.out
    assert "0000:01:00.1  Ethernet" in cede("devices", "--long").out
    assert len(cede("devices", NIC, "--json").json("devices")["devices"]) == 1
    for wrong in ("0f:00.0", "nonsense"):
        assert cede("devices", wrong).status == 2


def test_devices_are_listed_also_where_the_policy_is_broken(
    cede: Cede,
    host: SimulatedHost,
) -> None:
    host.paths.policy.parent.mkdir(parents=True)
    host.paths.policy.write_text("version: 2\n")
    shown = cede("devices")
    assert shown.status == 0
    assert NIC in shown.out
    assert f"{host.paths.policy}:1:10: " in shown.err
