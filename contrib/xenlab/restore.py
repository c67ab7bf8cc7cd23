"""Starting QEMU from a snapshot."""

import time
from collections.abc import Sequence
from pathlib import Path

from . import pristine, qemu
from .command import tail
from .dom0 import Dom0
from .emulator import Emulator, PortTakenError
from .errors import LabError
from .ports import free_port
from .qemu_programs import QemuPrograms

_PORT_ATTEMPTS = 5
_TIMEOUT = 120


def restore(
    emulator: Emulator,
    *,
    programs: QemuPrograms,
    disk: Path,
    snapshot: Path,
    sockets: Path | None = None,
    keep: Sequence[int] = (),
    dies_with_lab: bool = False,
) -> int:
    """Run what the folder `snapshot` holds, on the artifact `disk`; the port of dom0's sshd, once that answers.

    With `sockets` its connection is kept for the commands that follow, as in `Dom0`. `keep` are file descriptors
    (locks) for QEMU to hold while it lives. Raises LabError.
    """
    pristine.prepare_folder(emulator.folder, programs=programs, disk=disk, pristine=snapshot)
    port = _start_on_free_port(emulator, programs, keep, dies_with_lab=dies_with_lab)
    emulator.go_on(timeout=_TIMEOUT)
    try:
        # dom0's clock stands where the snapshot was taken.
        Dom0(keys=disk, port=port, sockets=sockets).wait_until_succeeds(
            ["date", "--set", f"@{time.time():.1f}"], timeout=_TIMEOUT
        )
    except LabError as error:
        error.details += "\n" + tail(emulator.console())
        raise
    return port


def _start_on_free_port(
    emulator: Emulator, programs: QemuPrograms, keep: Sequence[int], *, dies_with_lab: bool
) -> int:
    for attempt in range(_PORT_ATTEMPTS):
        port = free_port()
        try:
            argv = [*programs.system, *qemu.arguments(ssh_port=port, restore=True)]
            emulator.start(argv, keep=keep, dies_with_lab=dies_with_lab)
        except PortTakenError:
            if attempt == _PORT_ATTEMPTS - 1:
                raise
        else:
            return port
    raise AssertionError("unreachable: the last attempt returns or raises")
