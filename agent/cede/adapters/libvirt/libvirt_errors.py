"""libvirt's errors -> cede's, named for what the caller may do.

Under the Xen driver the code alone says little (most refusals are INTERNAL_ERROR), so the text counts too.
Source: include/libvirt/virterror.h, src/libxl/libxl_driver.c, src/hypervisor/virhostdev.c, src/util/virpci.c.
"""

from __future__ import annotations

import re

from cede.adapters.libvirt.libxl_logs import BACKEND_BUSY
from cede.errors import (
    CedeError,
    PermanentError,
    TransientError,
    UnreachableError,
    UnsafeError,
    WorldMovedError,
)

INTERNAL, NO_CONNECT, RPC, OP_FAILED, SYSTEM = 1, 5, 39, 9, 38
NO_SUPPORT, NO_POOL = 3, 49
NO_DOMAIN, NO_NODE_DEVICE, OP_INVALID, OP_TIMEOUT, AUTH = 42, 53, 55, 68, 45
_CONNECTION = frozenset({NO_CONNECT, RPC, AUTH})
_GONE = frozenset({NO_DOMAIN, NO_NODE_DEVICE})
_BROKEN_CONNECTION = (
    "failed to connect socket",
    "client socket is closed",
    "connection reset by peer",
    "end of file while reading",
    "broken pipe",
    "keepalive timeout",
)
_MOVED = (
    "domain is not running",
    "already exists",
    "already in the domain configuration",
    "not present in domain configuration",
    "must be manually detached",
)

_ATTACH_REMEDY = (
    "libxl's reason is in the logs in /var/log/libvirt/libxl; if the domain was started without "
    "<features><xen><passthrough state='on'/></xen></features>, switch that on and restart the domain"
)
# as assign_device answers libxl (xen/drivers/passthrough/pci.c)
_ATTACH_REMEDIES = (
    (
        re.compile(r"xc_assign_device failed: Operation not permitted"),
        "Xen refuses the device, mostly for reserved memory (RMRR) that it shares: see `xl dmesg` and `cede doctor`",
    ),
    (
        re.compile(r"xc_assign_device failed: Device or resource busy"),
        "another guest has the device, or a reset left its MSI-X mask on; `cede doctor` tells which",
    ),
    (
        re.compile(r"qemu refused to add device|QEMU|QMP|\(rc -9\)"),
        "the device model did not take the device: see its log, /var/log/xen/qemu-dm-*.log, and `cede doctor`",
    ),
)


def classify(code: int, text: str, *, cause: str = "") -> CedeError:
    """Return the error to raise for libvirt's `code` and `text`; `cause` is what libxl logged, if anything.

    Returned, not raised, so that the traceback has the caller's line.
    """
    lower = text.lower()
    said = f"{text} ({cause})" if cause else text
    if code in _CONNECTION or any(broken in lower for broken in _BROKEN_CONNECTION):
        return UnreachableError(
            f"libvirt does not answer: {said}",
            name="libvirt-unreachable",
            remedy="is the daemon running? systemctl status libvirtd (or virtxend and virtnodedevd)",
        )
    if code == OP_TIMEOUT:
        return TransientError(f"libvirt is busy with the domain: {said}", name="domain-busy")
    if code in _GONE:
        return WorldMovedError(
            f"vanished since the plan was made: {said}", name="gone-meanwhile", remedy="plan again"
        )
    if any(moved in lower for moved in _MOVED) or (code == OP_FAILED and "not found" in lower):
        return WorldMovedError(
            f"the host has changed since the plan was made: {said}",
            name="changed-meanwhile",
            remedy="plan again",
        )
    if "in use by driver" in lower:
        return UnsafeError(said, name="in-use", remedy="take the device out of that domain first")
    if "is not assignable" in lower or "failed to find parent device" in lower:
        return PermanentError(
            f"libvirt finds no bridge above the device, and passes such a device of bus 00 only: {said}",
            name="not-assignable",
            remedy="choose a device behind a bridge, or put the card into a slot behind one (`lspci -t`)",
        )
    if "unable to reset pci device" in lower or "not doing bus reset" in lower:
        return PermanentError(
            f"libvirt can't reset the device, and attaches none without a reset: {said}",
            name="reset-impossible",
            remedy="`cede devices` with its address tells how libvirt would reset it, and what is reset with it",
        )
    if BACKEND_BUSY.search(cause) or "is not assignable" in cause.lower():
        # an interrupted libxl leaves its record of the device; the next attach fails once, and removes the record
        return TransientError(said, name="libxl-interrupted")
    if "libxenlight failed to attach" in lower:
        return PermanentError(
            said,
            name="attach-failed",
            remedy=next(
                (remedy for sign, remedy in _ATTACH_REMEDIES if sign.search(cause)), _ATTACH_REMEDY
            ),
        )
    return PermanentError(said, name="libvirt-failed")
