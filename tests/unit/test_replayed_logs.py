"""What the doctor finds in the logs and the configuration spaces of a host in a folder, by `cede doctor --root`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sim.recorded_tree import POLICY
from sim.sys_tree import write
from unit import test_replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.test_cli import Shown

cede, root = test_replay.cede, test_replay.root
HELD = test_replay.HIDDEN
ENABLED = "(XEN) I/O virtualisation enabled"
DISABLED = "(XEN) I/O virtualisation disabled"
FINE = "[  9.0] fine"
GIVEN_UP = f"[  877.6] pciback {HELD}: not ready 65535ms after FLR; giving up"
NO_MSIX = f"[  5.1] pciback {HELD}: xen_pciback: MSI-X preparation failed (-6)"
LOCKED = "[  0.0] Kernel is locked down from EFI Secure Boot mode; see man kernel_lockdown.7"
INTEL = f"(XEN) [VT-D]DMAR:[DMA Write] Request device [{HELD}] fault addr fff"
AMD = f"(XEN) AMD-Vi: IO_PAGE_FAULT: {HELD} d5 addr 00000000fdf8020c flags 0x8 I"
CRASH = "(XEN) domain_crash called from iommu.c:497\n(XEN) Domain 5 (vcpu#0) crashed on cpu#3:"
TABLE = f"(XEN) AMD-Vi: Error: IVHD: invalid block length\n{DISABLED}"
WAITS = f"[  812.1] pciback {HELD}: not ready 1023ms after FLR; waiting"


LOCKDOWN = "sys/kernel/security/lockdown"


def findings(cede: Callable[..., Shown], root: Path) -> dict[str, str]:
    """The name and the subject of each finding."""
    return test_replay.findings(cede("doctor", "--json", "--root", str(root)))


@pytest.mark.parametrize(
    ("kernel", "xen", "name", "subject"),
    [
        (f"{WAITS}\n{GIVEN_UP}", ENABLED, "reset-hangs", HELD),
        (NO_MSIX, ENABLED, "msix-preparation-failed", HELD),
        (f"[  5.1] pciback {HELD}: xen map irq failed -22 for 5 domain", ENABLED, "map-irq-failed", HELD),
        (LOCKED, ENABLED, "kernel-lockdown", "this host"),
        (FINE, INTEL, "iommu-fault", HELD),
        (FINE, AMD, "iommu-fault", HELD),
        (FINE, CRASH, "domain-crashed", "domain 5"),
        (FINE, f"(XEN) d5: assign ({HELD}) failed (-16)", "assign-refused", f"{HELD} (-16)"),
        (FINE, TABLE, "iommu-table-wrong", "this host"),
        (FINE, DISABLED, "iommu-off", "this host"),
    ],
)  # fmt: skip
def test_a_log_from_the_field_has_its_finding(
    cede: Callable[..., Shown], root: Path, kernel: str, xen: str, name: str, subject: str
) -> None:
    write(root / "var/log/dmesg", f"[    0.000000] Linux version 6.1\n{kernel}\n")
    write(root / "var/log/xen/xl-dmesg.log", f"{xen}\n")
    assert findings(cede, root).get(name) == subject


def test_a_reset_that_came_back_has_none(cede: Callable[..., Shown], root: Path) -> None:
    back = f"[  813.2] pciback {HELD}: ready 2047ms after FLR"
    write(root / "var/log/dmesg", f"[    0.000000] Linux version 6.1\n{WAITS}\n{back}\n")
    assert "reset-hangs" not in findings(cede, root)


@pytest.mark.parametrize(("control", "found"), [(0xC0, True), (0x40, True), (0x80, False)])
def test_a_mask_is_read_from_the_configuration_space_that_was_sent(
    cede: Callable[..., Shown], root: Path, control: int, *, found: bool
) -> None:
    space = bytearray(256)
    space[0x06], space[0x34], space[0x40], space[0x43] = 0x10, 0x40, 0x11, control
    (root / f"sys/bus/pci/devices/{HELD}/config").write_bytes(bytes(space))
    assert (findings(cede, root).get("msix-masked") == HELD) is found


def test_the_policy_in_the_tree_is_read_too(cede: Callable[..., Shown], root: Path) -> None:
    assert "bare-address" not in findings(cede, root)
    write(root / "etc/cede/policy.yaml", POLICY.replace('    expect: {vendor: "8086"}\n', ""))
    assert findings(cede, root)["bare-address"] == "nic0"


@pytest.mark.parametrize(
    ("said", "line", "severity"),
    [
        ("none [integrity] confidentiality", FINE, "warning"),
        ("none integrity [confidentiality]", FINE, "warning"),
        ("[none] integrity confidentiality", FINE, None),
        ("[none] integrity confidentiality", LOCKED, None),
        ("none integrity", LOCKED, "warning"),
        (
            "none [integrity] confidentiality",
            "[  9.0] Lockdown: qemu: /dev/mem,kmem,port is restricted; see man kernel_lockdown.7",
            "fatal",
        ),
    ],
)
def test_the_kernels_own_word_on_its_lockdown_counts_more_than_its_log(
    cede: Callable[..., Shown], root: Path, said: str, line: str, severity: str | None
) -> None:
    write(root / LOCKDOWN, said)
    write(root / "var/log/dmesg", f"[    0.000000] Linux version 6.1\n{line}\n")
    found = cede("doctor", "--json", "--root", str(root)).json("doctor")["findings"]
    severities = {one["name"]: one["severity"] for one in found}
    assert severities.get("kernel-lockdown") == severity


def test_a_hide_that_grub_has_for_the_next_boot_is_judged_like_any_other(
    cede: Callable[..., Shown], root: Path
) -> None:
    write(root / "etc/default/grub", 'GRUB_CMDLINE_LINUX="xen-pciback.hide=(04:00.0)(0000:03:00.0"')
    place = "xen-pciback.hide= of GRUB_CMDLINE_LINUX in /etc/default/grub"
    found = test_replay.findings(cede("doctor", "--json", "--root", str(root)))
    assert found["hide-pending"] == found["hide-malformed"] == place
    assert found["hide-guarded"] == f"0000:04:00.0 of {place}"
