"""libxl's own words, found in the logs that libvirt leaves them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.adapters.libvirt.libxl_logs import ending_line, last_line, log_sizes

if TYPE_CHECKING:
    from pathlib import Path

NOW = "2026-11-24 04:17:06.846+0000: libxl: "
REFUSED = (
    f"{NOW}libxl_pci.c:1688:libxl__device_pci_add: Domain 1:PCI device 0:1:0.0 is not assignable\n"
)
FAILED = f"{NOW}libxl_pci.c:1820:device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device\n"
UNABLE = f"{NOW}libxl_device.c:1500:device_addrm_aocomplete: unable to add device\n"


def _say(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_the_ending_line_about_the_domain_is_the_reason(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    _say(tmp_path / "pv1.log", REFUSED + FAILED)
    assert ending_line(before) == "PCI device 0:1:0.0 is not assignable"


def test_where_the_domain_has_no_log_the_common_one_will_do(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    assert ending_line(before) == "unable to add device"


def test_what_was_said_before_is_not_the_reason(tmp_path: Path) -> None:
    _say(tmp_path / "pv1.log", REFUSED)
    before = log_sizes(tmp_path, "pv1")
    assert ending_line(before) == ""
    _say(tmp_path / "pv1.log", '    "on_reboot": "restart"\n}\n\n' + FAILED)
    assert ending_line(before).startswith("libxl__device_pci_add failed")


def test_a_log_without_end_is_read_from_its_end(tmp_path: Path) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "pv1.log", UNABLE + "noise\n" * 50_000 + REFUSED)
    assert ending_line(before) == "PCI device 0:1:0.0 is not assignable"


@pytest.mark.parametrize("hostile", ["\x1b]0;owned\x07", "\x1b[2J", "\x00\x08"])
def test_no_terminal_escape_comes_through(tmp_path: Path, hostile: str) -> None:
    before = log_sizes(tmp_path, "pv1")
    _say(tmp_path / "pv1.log", f"{NOW}libxl_pci.c:1:f: Domain 1:bad {hostile}thing\n")
    assert ending_line(before).isprintable()
    assert ending_line(before).endswith("thing")


def test_the_last_words_on_a_domain_are_those_at_the_end_of_its_log(tmp_path: Path) -> None:
    assert last_line(tmp_path, "pv1") == ""
    _say(tmp_path / "pv1.log", REFUSED + FAILED + '    "on_reboot": "restart"\n}\n')
    assert last_line(tmp_path, "pv1").startswith("libxl__device_pci_add failed")
    _say(tmp_path / "libxl-driver.log", UNABLE)
    assert "unable" not in last_line(tmp_path, "pv1")


# -- what libxl logs before a failure and after it, as published logs have it and tools/libs/light/libxl_pci.c words it

RESET = (
    "libxl_pci.c:1574:libxl__device_pci_reset: "
    "The kernel doesn't support reset from sysfs for PCI device 0000:01:00.0"
)
RESET_OF_A_DOMAIN = RESET.replace(": The", ": Domain 1:The")
NO_FLR = (
    "libxl_pci.c:1463:libxl__device_pci_reset: write '0000:01:00.0' to "
    "/sys/bus/pci/drivers/pciback/do_flr failed: Inappropriate ioctl for device"
)
NO_IRQ = (
    "libxl_pci.c:1485:pci_add_dm_done: Domain 1:Couldn't open "
    "/sys/bus/pci/devices/0000:01:00.0/irq: No such file or directory"
)
DENIED = (
    "libxl_pci.c:1529:pci_add_dm_done: Domain 1:xc_assign_device failed: Operation not permitted"
)
BUSY = "libxl_pci.c:1529:pci_add_dm_done: Domain 1:xc_assign_device failed: Device or resource busy"
NOT_TAKEN = "qemu refused to add device: 0000:01:00.0,msitranslate=0,power_mgmt=0"
QEMU = f"libxl_pci.c:1067:qemu_pci_add_xenstore: Domain 1:{NOT_TAKEN}"
DEVICE_MODEL = "libxl_exec.c:227:libxl__xenstore_child_wait_deprecated: Device Model not ready"
RETRY = "libxl_pci.c:1163:pci_add_qmp_device_add_cb: Domain 1:Retrying PCI add 3"
QMP = 'libxl_qmp.c:1890:qmp_ev_parse_error_messages: Domain 1:Failed to "query" the device: Input/output error'
GUEST_HAS_IT = (
    "libxl_pci.c:1659:libxl__device_pci_add: Domain 1:"
    "PCI device 0000:01:00.0 already assigned to a different guest?"
)
BACKEND = (
    "libxl_device.c:1465:libxl__wait_for_backend: Backend /local/domain/0/backend/pci/1/0 not ready"
)
OF_ANOTHER = BACKEND.replace("pci/1/0", "pci/7/0")
TIMED_OUT = "libxl_pci.c:1824:device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device 0:1:0.0 (rc -9)"
GIVEN_UP = TIMED_OUT.replace("-9", "-3")
ALL = "libxl_create.c:1945:domcreate_attach_devices: Domain 1:unable to add pci devices"
NOT_ADDED = "libxl_device.c:1481:device_addrm_aocomplete: unable to add device"
DESTROYED = "libxl_domain.c:1589:devices_destroy_cb: Domain 1:libxl__devices_destroy failed"
DEBUG = "libxl_pci.c:173:libxl__device_pci_add_xenstore: Domain 1:Adding new pci device to xenstore"
DEBUG_AFTER = "libxl_event.c:1873:libxl__ao_complete: ao 0x7f5c: complete, rc=-3"


def _reported(folder: Path, *lines: str) -> str:
    """The reason among these lines, each in the log that libvirt puts it into."""
    before = log_sizes(folder, "pv1")
    for number, line in enumerate(lines):
        log = "pv1" if "Domain 1:" in line else "libxl-driver"
        _say(folder / f"{log}.log", f"2026-11-24 04:17:06.{number:03}+0000: libxl: {line}\n")
    return ending_line(before)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((RESET, DENIED, GIVEN_UP, NOT_ADDED), "xc_assign_device failed: Operation not permitted"),
        ((RESET_OF_A_DOMAIN, BUSY, GIVEN_UP, NOT_ADDED), "xc_assign_device failed: Device or resource busy"),
        ((NO_FLR, DENIED, GIVEN_UP), "xc_assign_device failed: Operation not permitted"),
        ((RESET, NO_IRQ, DENIED, GIVEN_UP), "xc_assign_device failed: Operation not permitted"),
        ((RESET, DEVICE_MODEL, QEMU, GIVEN_UP, RESET, DESTROYED), NOT_TAKEN),
        ((RESET, TIMED_OUT, NOT_ADDED), "libxl__device_pci_add failed for PCI device 0:1:0.0 (rc -9)"),
        ((RESET_OF_A_DOMAIN, TIMED_OUT, ALL), "libxl__device_pci_add failed for PCI device 0:1:0.0 (rc -9)"),
        ((RESET, QMP, RETRY, QMP, GIVEN_UP), 'Failed to "query" the device: Input/output error'),
        ((RESET, QMP, RETRY, TIMED_OUT), 'Failed to "query" the device: Input/output error'),
        ((GUEST_HAS_IT, GIVEN_UP, NOT_ADDED), "PCI device 0000:01:00.0 already assigned to a different guest?"),
        ((RESET, BACKEND, GIVEN_UP, NOT_ADDED), "Backend /local/domain/0/backend/pci/1/0 not ready"),
        ((RESET, NO_IRQ, BACKEND, GIVEN_UP), "Backend /local/domain/0/backend/pci/1/0 not ready"),
        ((OF_ANOTHER, DENIED, GIVEN_UP), "xc_assign_device failed: Operation not permitted"),
        ((DENIED, OF_ANOTHER, GIVEN_UP), "xc_assign_device failed: Operation not permitted"),
        ((DEBUG, DENIED, GIVEN_UP, DEBUG_AFTER), "xc_assign_device failed: Operation not permitted"),
        ((RESET,), ""),
        ((NOT_ADDED,), "unable to add device"),
    ],
)  # fmt: skip
def test_the_reason_is_the_line_that_ended_it_and_never_the_reset(
    tmp_path: Path, lines: tuple[str, ...], reason: str
) -> None:
    assert _reported(tmp_path, *lines) == reason


def test_the_last_words_on_a_domain_are_not_of_a_reset_that_it_lacks(tmp_path: Path) -> None:
    _reported(tmp_path, DENIED, RESET_OF_A_DOMAIN)
    assert last_line(tmp_path, "pv1") == "xc_assign_device failed: Operation not permitted"
