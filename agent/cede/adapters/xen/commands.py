"""The adapter to programs: `modprobe`, `udevadm`, and `xl` for what libvirt has no call for.

Arguments go as a list, never through a shell; output and time are limited.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from cede.errors import HungError, PermanentError
from cede.util import process

if TYPE_CHECKING:
    from cede.model.pci import Address


class Kernel:
    """dom0's kernel, through programs."""

    def load_pciback(self) -> None:
        """Run `modprobe xen-pciback`. Raises PermanentError with the remedy if that fails."""
        try:
            process.run("modprobe", "xen-pciback")
        except PermanentError as error:
            raise PermanentError(
                f"the kernel module xen-pciback can't be loaded: {error.message}",
                name="pciback-not-loaded",
                remedy="run on dom0 of a Xen host, with a kernel that has CONFIG_XEN_PCIDEV_BACKEND",
            ) from error

    def await_udev(self, seconds: float) -> bool:
        """Run `udevadm settle`: wait until udev has loaded drivers and named interfaces; False if that takes longer."""
        try:
            process.run("udevadm", "settle", f"--timeout={seconds:.0f}", seconds=seconds + 5.0)
        except (PermanentError, HungError):
            return False
        return True

    def load_driver(self, modalias: str) -> None:
        """Run `modprobe -b` with a device's `modalias`. Raises PermanentError if there is no driver."""
        process.run("modprobe", "-b", modalias)


class Xl:
    """Xen's own toolstack, for what libvirt has no call for: quarantine, and devices that libvirt lost track of."""

    def installed(self) -> bool:
        """Return whether xl is installed; /usr/sbin is searched too, which is not in every user's PATH."""
        return (
            shutil.which("xl", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
            is not None
        )

    def attach(self, domid: int, address: Address, *, permissive: bool) -> None:
        """Give a running domain what is assignable, by `xl pci-attach`; libvirt hears nothing of it.

        Raises PermanentError if Xen's toolstack refuses.
        """
        options = ",permissive=1" if permissive else ""
        process.run("xl", "pci-attach", str(domid), f"{address}{options}")

    def detach(self, domid: int, address: Address) -> None:
        """Take out of a running domain what libvirt doesn't list there, by `xl pci-detach`.

        Raises PermanentError if Xen's toolstack refuses.
        """
        process.run("xl", "pci-detach", str(domid), str(address))

    def assignable_remove(self, address: Address) -> bool:
        """Take the device out of Xen's quarantine and drop its pciback slot, by `xl pci-assignable-remove`.

        Returns False for a device that never was in a guest: xl says "failed to de-quarantine" and changes
        nothing. Raises PermanentError for any other failure.
        """
        try:
            process.run("xl", "pci-assignable-remove", str(address))
        except PermanentError as error:
            if "de-quarantine" in error.message:
                return False
            raise
        return True
