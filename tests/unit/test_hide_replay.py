"""`hide=` in a host's folder, at each place where people put it: what doctor, boot and import say of the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sim.sys_tree import write
from unit.test_replay import HIDDEN, NIC, cede, root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.test_cli import Shown

__all__ = ["cede", "root"]

CONF, LINE = "etc/modprobe.d/hide.conf", "proc/cmdline"
LIST, SHARED = "etc/initramfs-tools/modules", "usr/share/initramfs-tools/modules.d/pci"
RIGHT, GONE, ROOT_DISK = "hide=(03:00.0)", "hide=(03:00.0)(09:00.0)", "hide=(03:00.0)(04:00.0)"
QUBES = "usr/lib/dracut/modules.d/90qubes-pciback/module-setup.sh"
ANSWERS = '{{"version": 1, "xen_command_line": "{}"}}'


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({LIST: f"xen-pciback {RIGHT}"}, set()),
        ({SHARED: f"xen-pciback {RIGHT}", LIST: ""}, set()),
        ({LIST: f"xen-pciback {GONE}"}, {"no-device"}),
        ({LIST: f"xen-pciback {ROOT_DISK}"}, {"guarded"}),
        ({LIST: "xen-pciback hide=(03:00.0"}, {"malformed"}),
        ({LIST: f"xen-pciback {RIGHT}", CONF: f"options xen-pciback {RIGHT}"}, {"overruled"}),
        ({LIST: f"xen-pciback {RIGHT}", SHARED: f"xen-pciback {RIGHT}"}, {"ignored"}),
        ({LIST: "xen-pciback", SHARED: f"xen-pciback {RIGHT}"}, {"ignored"}),
        ({"etc/modules": f"xen-pciback {RIGHT}", LIST: ""}, {"ignored"}),
        ({"etc/modules-load.d/x.conf": f"xen-pciback {GONE}"}, {"ignored", "no-device"}),
        ({CONF: f"options pciback {RIGHT}"}, {"ignored"}),
        ({CONF: f"options xen-pciback {RIGHT}", LIST: "xen-pciback"}, set()),
        ({CONF: f"options xen-pciback {RIGHT}", LIST: "loop"}, {"late"}),
        ({CONF: f"options xen-pciback {RIGHT}"}, set()),
        ({CONF: f"options xen-pciback {RIGHT}  (01:00.0)"}, {"trailing"}),
        ({LINE: f"ro xen-pciback.{RIGHT} (01:00.0) quiet"}, {"trailing"}),
        ({CONF: "install e1000e /sbin/modprobe pciback ; /sbin/modprobe -i e1000e"}, {"old-name"}),
        ({CONF: "softdep e1000e pre: pciback"}, {"old-name"}),
        ({CONF: "install xen-pciback /bin/false"}, {"disabled"}),
        ({LINE: "ro rd.qubes.hide_pci=03:00.0"}, {"ignored"}),
        ({LINE: "ro rd.qubes.hide_pci=03:00.0", QUBES: ""}, set()),
        ({LINE: "ro rd.qubes.hide_pci=03:00.0,09:00.0", QUBES: ""}, {"no-device"}),
        ({"cede/answers.json": ANSWERS.format(f"dom0_mem=2G xen-pciback.{RIGHT}")}, {"ignored"}),
    ],
)
def test_the_doctor_and_the_early_binder_say_the_same_of_each_place(
    cede: Callable[..., Shown],
    root: Path,
    files: dict[str, str],
    names: set[str],
) -> None:
    for path in (CONF, "etc/modules"):
        (root / path).unlink()
    for path, text in {LINE: "ro", **files}.items():
        write(root / path, text)
    boot = cede("boot", "--print", "--json", "--root", str(root)).json("boot")["mistakes"]
    assert {one["name"] for one in boot} == names
    doctor = cede("doctor", "--json", "--root", str(root)).json("doctor")["findings"]
    assert {one["name"] for one in doctor if one["name"].startswith("hide-")} == {
        f"hide-{name}" for name in names
    }


def test_a_hidden_device_that_is_assigned_and_refused_is_told_with_the_rule(
    cede: Callable[..., Shown],
    root: Path,
) -> None:
    write(root / LINE, "ro xen-pciback.hide=(03:00.0)(01:00.0)")
    policy = root / "etc/cede/policy.yaml"
    policy.write_text(policy.read_text().replace('"8086"', '"10de"'))
    boot = cede("boot", "--print", "--json", "--root", str(root)).json("boot")
    found = {one["entry"]: one["name"] for one in boot["mistakes"] if one["entry"]}
    assert (found[HIDDEN], found[NIC]) == ("refused", "not-assigned")
    (refusal,) = boot["left_out"]
    (mistake,) = [one for one in boot["mistakes"] if one["name"] == "refused"]
    assert (mistake["why"], refusal["rule"] in mistake["what"]) == (refusal["reason"], True)


def test_what_is_on_pciback_in_the_folder_is_imported_without_any_setting(
    cede: Callable[..., Shown],
    root: Path,
) -> None:
    (root / "etc/cede/policy.yaml").unlink()
    write(root / LINE, "ro")
    said = cede("import", "--from-pciback", "--json", "--root", str(root)).json("import")
    assert [one["address"] for one in said["devices"]] == [HIDDEN]
