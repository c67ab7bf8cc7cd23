"""The snapshot that every run starts from: Xen, libvirt and all guests up, nothing touched yet.

The artifact is a folder with the disks as they were at that moment (overlays on the disk
artifact), `state`, the machine's memory and devices, and `unsaved.json`, what QEMU leaves out of
it. It is never written again: each run has its own overlays on top, so a killed QEMU harms nothing,
and a reset is a new start.
"""

from contextlib import ExitStack
from pathlib import Path

from . import guests, qemu, unsaved
from .command import run, tail
from .dom0 import Dom0, UnreachableError
from .emulator import Emulator
from .errors import LabError
from .machine import GUESTS, ROOT_DISK, RUNNING_GUESTS, USB_DISK, Release
from .ports import free_port
from .progress import step
from .qemu_programs import QemuPrograms
from .store import Recipe, digest, digest_of_modules
from .waiting import wait_until

_NEEDS_MIB = 1500
_BOOT_TIMEOUT = 600  # a minute on an idle machine; others can be busy on it
STATE_FILES = (qemu.STATE, unsaved.FILE)
_IMAGES = {ROOT_DISK: "root.img", USB_DISK: "usb.img"}


def recipe(
    release: Release, *, emulator: Recipe, programs: QemuPrograms, disk: Recipe, disk_folder: Path
) -> Recipe:
    """How the snapshot of `release` is made from the disk in `disk_folder`."""
    inputs = [
        disk.digest,
        emulator.digest,
        *qemu.arguments(ssh_port=0, restore=True),
        digest_of_modules("pristine", "await_prompts", "unsaved"),
    ]
    return Recipe(
        kind="pristine",
        release=release.suite,
        digest=digest(inputs),
        needs_mib=_NEEDS_MIB,
        build=lambda folder: _build(programs, disk_folder, folder),
    )


_WARM = (
    "click.shell_completion", "compileall", "concurrent.futures.thread", "difflib", "h11", "jsonschema",
    "libvirt", "lxml.etree", "sqlite3", "tarfile", "tenacity", "yaml",
)  # fmt: skip


def prepare_folder(
    folder: Path, *, programs: QemuPrograms, disk: Path, pristine: Path | None
) -> None:
    """Lay out in `folder` what QEMU needs: the files it boots, and fresh overlays of the disks."""
    for name in qemu.KERNEL_FILES:
        _link(folder / name, disk / name)
    if pristine is not None:
        for name in STATE_FILES:
            _link(folder / name, pristine / name)
    for drive, image in _IMAGES.items():
        overlay = folder / qemu.disk_file(drive)
        overlay.unlink(missing_ok=True)
        if pristine is not None:
            backing, kind = str(pristine / qemu.disk_file(drive)), "qcow2"
        else:
            # Relative, from one artifact to its neighbour: the cache can be moved.
            backing, kind = f"../{disk.name}/{image}", "raw"
        create = ["create", "-q", "-f", "qcow2", "-F", kind, "-b", backing, str(overlay)]
        run([*programs.image, *create])


def _build(programs: QemuPrograms, disk: Path, folder: Path) -> None:
    prepare_folder(folder, programs=programs, disk=disk, pristine=None)
    emulator = Emulator(folder=folder)
    dom0 = Dom0(keys=disk, port=free_port())
    with ExitStack() as stack:
        stack.callback(emulator.stop)
        try:
            _boot(emulator, programs, dom0)
        except LabError as error:
            if not error.details:
                error.details = tail(emulator.console())
            raise
        with step("taking the snapshot"):
            emulator.save()
    keep_only_the_snapshot(folder)


def _boot(emulator: Emulator, programs: QemuPrograms, dom0: Dom0) -> None:
    with step("booting Xen and dom0 under emulation"):
        argv = [*programs.system, *qemu.arguments(ssh_port=dom0.port, restore=False)]
        emulator.start(argv, dies_with_lab=True)
        _await_sshd(emulator, dom0)
    with step("waiting for libvirt's Xen driver"):
        dom0.wait_until_succeeds(["virsh", "-c", "xen:///system", "version"], timeout=_BOOT_TIMEOUT)
        _await_systemd(dom0)
    with step(f"starting the guests {', '.join(guest.name for guest in RUNNING_GUESTS)}"):
        commands = [f"define {guests.FOLDER}/{guest.name}.xml" for guest in GUESTS]
        commands += [f"start {guest.name}" for guest in RUNNING_GUESTS]
        dom0.succeed(
            ["virsh", "-q", "-c", "xen:///system", "; ".join(commands)], timeout=_BOOT_TIMEOUT
        )
        script = Path(__file__).with_name("await_prompts.py").read_text()
        prompts = [f"{guest.name}={guest.ready_prompt}" for guest in RUNNING_GUESTS]
        dom0.succeed(["python3", "-", *prompts], stdin=script, timeout=_BOOT_TIMEOUT)
    # What every command of cede reads is then in memory, as it is on a host that has run for a while.
    dom0.succeed(["python3", "-c", f"import {', '.join(_WARM)}"])
    dom0.succeed(["sync"])


def _await_sshd(emulator: Emulator, dom0: Dom0) -> None:
    def reached() -> bool:
        if emulator.pid is None:
            raise emulator.failure("QEMU ended while dom0 was booting")
        return dom0.listens()

    if not wait_until(reached, timeout=_BOOT_TIMEOUT, interval=0.5):
        raise LabError(f"dom0 did not come up within {_BOOT_TIMEOUT} s")


def _await_systemd(dom0: Dom0) -> None:
    """Wait until all of dom0 is started, with nothing failed: a broken unit is no pristine state."""
    state = ""

    def settled() -> bool:
        nonlocal state
        try:
            state = dom0.run(["systemctl", "is-system-running", "--wait"]).stdout.strip()
        except UnreachableError:  # sshd is started anew while dom0 settles
            return False
        return state in {"running", "degraded", "maintenance"}

    if not wait_until(settled, timeout=_BOOT_TIMEOUT, interval=0.5) or state != "running":
        failed = dom0.run(["systemctl", "--failed", "--plain", "--no-legend"])
        raise LabError(f"dom0 came up {state or 'without systemd'}", details=failed.stdout)


def keep_only_the_snapshot(folder: Path) -> None:
    """Remove from `folder` what only the run needed that the snapshot was taken of."""
    kept = {*STATE_FILES, *(qemu.disk_file(drive) for drive in _IMAGES)}
    for file in folder.iterdir():
        if file.name not in kept:
            file.unlink()


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
