"""What is asked of device nodes and open files: which device that is, and whether the kernel lets it be taken.

Sources: open(2) (O_EXCL of a block device), the kernel's block/bdev.c (bd_may_claim: a held partition holds its disk
too) and include/uapi/linux/fb.h (FBIOGET_CON2FBMAP).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from fcntl import ioctl
from typing import NamedTuple

from cede.errors import PermanentError

_TRIES, _PAUSE_SECONDS = 3, 0.02
_CONSOLES = 63
_CON2FBMAP = struct.Struct("=II")  # console, frame buffer
_GET_CON2FBMAP = 0x460F


class DeviceNumber(NamedTuple):
    """A block or character device by the kernel's number, `8:1`."""

    block: bool
    number: str


class Nodes:
    """Asks the kernel through the nodes themselves. Only `held` raises."""

    def number(self, path: str) -> DeviceNumber | None:
        """Return the device of a node or of an open file (`/proc/1/fd/3`); None if that is none, or unreadable."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        block = stat.S_ISBLK(status.st_mode)
        if not block and not stat.S_ISCHR(status.st_mode):
            return None
        return DeviceNumber(block, f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")

    def filesystem(self, path: str) -> str | None:
        """Return the number of the device whose file system has the file, `8:1` or a made-up `0:42`."""
        try:
            at = os.stat(path).st_dev
        except (OSError, ValueError):
            return None
        return f"{os.major(at)}:{os.minor(at)}"

    def held(self, path: str, number: str) -> bool:
        """Whether the kernel refuses the block device to everybody else; False for who isn't root.

        The node must have that number. It is closed at once, and asked for again where another one may just ask, too.
        Raises PermanentError (`holders-unknown`) if a control group keeps the device from cede: its refusal is EPERM,
        that of a file's mode EACCES (block/bdev.c, bdev_permission).
        """
        if self.number(path) != DeviceNumber(block=True, number=number):
            return False
        flags = os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC
        for _ in range(_TRIES):
            try:
                os.close(os.open(path, flags))
            except OSError as error:
                if error.errno == errno.EPERM:
                    raise PermanentError(
                        f"a control group keeps {path} from cede, which so can't tell whether the disk is in use",
                        name="holders-unknown",
                        remedy="in cede's systemd unit: DeviceAllow=block-* r",
                    ) from error
                if error.errno != errno.EBUSY:
                    return False
            else:
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def console_frame_buffers(self, path: str) -> frozenset[int]:
        """Return the numbers of the frame buffers that text consoles are on, as one of them, at `path`, tells."""
        try:
            node = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return frozenset()
        try:
            answers = (
                ioctl(node, _GET_CON2FBMAP, _CON2FBMAP.pack(console, 0))
                for console in range(1, _CONSOLES + 1)
            )
            return frozenset(_CON2FBMAP.unpack(answer)[1] for answer in answers)
        except OSError:
            return frozenset()
        finally:
            os.close(node)
