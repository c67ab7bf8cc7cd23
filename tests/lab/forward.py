"""The lab's libvirt, as the administrator reaches it from a machine of their own."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab.started import started
from xenlab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenlab.dom0 import Dom0

_THERE = "/run/libvirt/libvirt-sock"
_TIMEOUT = 60
# the first value of an option counts; a connection of its own ends when this ssh is ended
_OPTIONS = ("-o", "ControlPath=none", "-o", "ControlMaster=no", "-o", "ExitOnForwardFailure=yes")


@contextmanager
def forwarded(dom0: Dom0) -> Iterator[str]:
    """A libvirt URI by which programs of this machine reach dom0's libvirt, through ssh, for as long as that is wanted.

    Not xen+ssh: each program that connects would bring up, check and pay for a connection of its own.
    """
    program, *way, _, _ = dom0.ssh(())
    with tempfile.TemporaryDirectory(prefix="libvirt-") as name:
        folder = Path(name)
        here, log = folder / "sock", folder / "ssh.log"
        with started((program, *_OPTIONS, "-N", "-L", f"{here}:{_THERE}", *way), log):
            assert wait_until(here.exists, timeout=_TIMEOUT), log.read_text(errors="replace")
            yield f"xen+unix:///system?socket={here}"
