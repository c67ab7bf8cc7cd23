"""libvirt's errors under the Xen driver: each as it was seen, and what may be done about it."""

from __future__ import annotations

import pytest

from cede.adapters.libvirt.libvirt_errors import classify
from cede.errors import (
    CedeError,
    FailureKind,
    PermanentError,
    TransientError,
    UnreachableError,
    UnsafeError,
    WorldMovedError,
)

NIC = "0000:01:00.0"
INTERNAL, NO_SUPPORT, NO_CONNECT, INVALID_ARG, OP_FAILED = 1, 3, 5, 8, 9
SYSTEM, RPC, NO_DOMAIN, AUTH, NO_NODE_DEVICE = 38, 39, 42, 45, 53
OP_INVALID, CONFIG_UNSUPPORTED, OP_TIMEOUT = 55, 67, 68
ATTACH = f"internal error: libxenlight failed to attach pci device {NIC}"


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (OP_INVALID, f"PCI device {NIC} is in use by driver xenlight, domain g1", UnsafeError),
        (INTERNAL, f"Unable to reset PCI device {NIC}: no FLR, PM reset or bus reset available", PermanentError),
        (INTERNAL, f"Active 0000:02:00.1 devices on bus with {NIC}, not doing bus reset", PermanentError),
        (INTERNAL, "Non-endpoint PCI devices cannot be assigned to guests", PermanentError),
        (INTERNAL, ATTACH, PermanentError),
        (OP_INVALID, "Requested operation is not valid: domain is not running", WorldMovedError),
        (OP_FAILED, f"target pci device {NIC} already exists", WorldMovedError),
        (OP_INVALID, "device is already in the domain configuration", WorldMovedError),
        (OP_INVALID, f"Unmanaged PCI device {NIC} must be manually detached from the host", WorldMovedError),
        (OP_FAILED, f"host pci device {NIC} not found", WorldMovedError),
        (INVALID_ARG, "device not present in domain configuration", WorldMovedError),
        (NO_NODE_DEVICE, "no node device with matching name 'pci_0000_01_00_0'", WorldMovedError),
        (NO_DOMAIN, "Domain not found: no domain with matching name 'pv1'", WorldMovedError),
        (OP_TIMEOUT, "Timed out during operation: cannot acquire state change lock", TransientError),
        (CONFIG_UNSUPPORTED, "PVH does not support PCI passthrough", PermanentError),
        (CONFIG_UNSUPPORTED, "pci backend driver type 'default' is not supported", PermanentError),
        (NO_SUPPORT, "this function is not supported by the connection driver", PermanentError),
        (NO_CONNECT, "no connection driver available for xen:///system", UnreachableError),
        (RPC, "Cannot recv data", UnreachableError),
        (AUTH, "authentication unavailable", UnreachableError),
        (INTERNAL, "client socket is closed", UnreachableError),
        (SYSTEM, "Failed to connect socket to '/run/libvirt/libvirt-sock'", UnreachableError),
        (SYSTEM, "Cannot recv data: Connection reset by peer", UnreachableError),
        (SYSTEM, "Cannot write data: Broken pipe", UnreachableError),
        (SYSTEM, "End of file while reading data: Input/output error", UnreachableError),
        (SYSTEM, "Unable to open /sys/bus/pci/drivers_probe: Permission denied", PermanentError),
        (INTERNAL, "Failed to load PCI driver module pciback: Module pciback not found", PermanentError),
        (0, "", PermanentError),
    ],
)  # fmt: skip
def test_an_error_is_classed_by_what_may_be_done_about_it(
    code: int, text: str, kind: type[CedeError]
) -> None:
    error = classify(code, text)
    assert type(error) is kind
    assert text in error.message


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("libxl__wait_for_backend: Domain 1:Backend /local/domain/0/backend/pci/1/0 not ready", TransientError),
        ("Domain 1:Backend Not Ready", TransientError),
        ("PCI device 0:1:0.0 is not assignable", TransientError),
        ("xc_assign_device failed: Operation not permitted", PermanentError),
        ("Device Model not ready", PermanentError),
        ("libxl__device_pci_add failed for PCI device 0:1:0.0 (rc -3)", PermanentError),
        ("", PermanentError),
    ],
)  # fmt: skip
def test_what_libxl_logged_reports_a_busy_backend_from_a_refusal(
    cause: str, kind: type[CedeError]
) -> None:
    error = classify(INTERNAL, ATTACH, cause=cause)
    assert type(error) is kind
    assert cause in error.message


def test_a_bare_refusal_says_where_the_reason_is_and_what_it_mostly_is() -> None:
    remedy = classify(INTERNAL, ATTACH).remedy
    assert "/var/log/libvirt/libxl" in remedy
    assert "<passthrough state='on'/>" in remedy


def test_a_missing_reset_is_reported_with_where_to_look() -> None:
    assert "cede devices" in classify(INTERNAL, f"Unable to reset PCI device {NIC}: no FLR").remedy


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (OP_INVALID, "Requested operation is not valid: PCI device 0000:80:14.3 is not assignable"),
        (INTERNAL, "internal error: Failed to find parent device for 0000:80:14.3"),
        (INTERNAL, "Unable to reset PCI device 0000:80:14.3: Failed to find parent device for 0000:80:14.3"),
    ],
)  # fmt: skip
def test_an_endpoint_without_a_bridge_above_it_has_its_own_remedy(code: int, text: str) -> None:
    error = classify(code, text)
    assert (type(error), error.name) == (PermanentError, "not-assignable")
    assert "bridge" in error.remedy


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (OP_INVALID, "in use by driver xenlight, domain X", FailureKind.UNSAFE),
        (OP_INVALID, "domain is not running", FailureKind.TRY_LATER),
        (SYSTEM, "Failed to connect socket to '/nowhere'", FailureKind.TRY_LATER),
        (INTERNAL, ATTACH, FailureKind.FAILED),
    ],
)
def test_the_exit_status_follows(code: int, text: str, status: FailureKind) -> None:
    error = classify(code, text)
    assert error.kind is status
    assert error.remedy


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        ("xc_assign_device failed: Operation not permitted", "RMRR"),
        ("xc_assign_device failed: Device or resource busy", "MSI-X"),
        ("qemu refused to add device: 0000:01:00.0,msitranslate=0,power_mgmt=0", "qemu-dm"),
        ("libxl__device_pci_add failed for PCI device 0:1:0.0 (rc -9)", "qemu-dm"),
        ("anything else", "<passthrough state='on'/>"),
    ],
)
def test_the_remedy_follows_what_libxl_logged(cause: str, word: str) -> None:
    error = classify(INTERNAL, ATTACH, cause=cause)
    assert (error.name, word in error.remedy) == ("attach-failed", True)
