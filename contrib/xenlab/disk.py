"""dom0's disk and what it boots from: packages, configuration and guests, packed without a mount.

The artifact is a folder with `root.img` (the disk), `usb.img` (the disk on the USB controller),
`xen`, `vmlinuz` and `initrd.img` (what QEMU boots), and the keys that ssh needs.
"""

import gzip
import os
from pathlib import Path

from . import dom0_config, guests
from .command import as_root, run
from .cpio import Archive
from .kernel_modules import kernel_version, resolve
from .machine import GUESTS, Release
from .progress import step
from .store import Recipe, digest, digest_of_modules

KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"
HOST_ALIAS = "cede-lab-dom0"
USB_LABEL = "LABUSB"

_NEEDS_MIB = 2600
_SOURCES = (
    "cpio",
    "disk",
    "dom0_config",
    "guests",
    "kernel_modules",
    "machine",
    "root_programs",
)
_DISK_BYTES = 4 << 30
_USB_BYTES = 16 << 20
_CPU_MAP = "usr/share/libvirt/cpu_map/x86_486.xml"


def recipe(release: Release, rootfs: Recipe, rootfs_folder: Path) -> Recipe:
    """How the disk of `release` is made of the root file system in `rootfs_folder`."""
    inputs = (rootfs.digest, digest_of_modules(*_SOURCES), guests.HELPER.read_bytes())
    return Recipe(
        kind="disk",
        release=release.suite,
        digest=digest(inputs),
        needs_mib=_NEEDS_MIB,
        build=lambda folder: _build(release, rootfs_folder / "root", folder),
    )


def _build(release: Release, rootfs: Path, folder: Path) -> None:
    with step(f"configuring and packing dom0's disk ({release.suite})"):
        _make_keys(folder)
        _make_boot_files(release, rootfs, folder)
        additions = folder / "additions"
        _make_additions(release, rootfs, folder, additions)
        _pack(rootfs, additions, folder)
        _make_usb_disk(folder)


def _make_keys(folder: Path) -> None:
    for name, comment in ((KEY, "lab"), ("host_key", "dom0")):
        run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(folder / name)]
        )
    public = (folder / "host_key.pub").read_text()
    (folder / KNOWN_HOSTS).write_text(f"{HOST_ALIAS} {public}")


def _make_boot_files(release: Release, rootfs: Path, folder: Path) -> None:
    packed = rootfs / f"boot/xen-{release.xen}-amd64.gz"
    (folder / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
    kernel = rootfs / f"boot/vmlinuz-{kernel_version(rootfs)}"
    (folder / "vmlinuz").write_bytes(kernel.read_bytes())
    archive = Archive()
    for name in ("dev", "proc", "root"):
        archive.add_folder(name)
    archive.add_file("init", dom0_config.INITRAMFS_INIT, executable=True)
    archive.add_file("bin/busybox", (rootfs / "usr/bin/busybox").read_bytes(), executable=True)
    modules = resolve(rootfs, dom0_config.INITRAMFS_MODULES)
    for module in modules:
        archive.add_file(f"lib/modules/{module.name}.ko", module.content)
    archive.add_file("lib/modules/order", "".join(f"{module.name}.ko\n" for module in modules))
    (folder / "initrd.img").write_bytes(archive.finish())


def _make_additions(release: Release, rootfs: Path, folder: Path, additions: Path) -> None:
    """Lay out, below `additions`, what is put on top of the packages."""

    def add(path: str, content: str | bytes, mode: int = 0o644) -> None:
        target = additions / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    files = dom0_config.configuration(
        authorized_key=(folder / f"{KEY}.pub").read_text(),
        host_key=(folder / "host_key").read_text(),
        penalties=release.suite != "bookworm",
    )
    (folder / "host_key").unlink()
    for path, text in files.items():
        add(path, text, 0o600 if "_key" in path else 0o644)
    (additions / "root").chmod(0o700)
    add(_CPU_MAP, dom0_config.cpu_map_without_vme((rootfs / _CPU_MAP).read_text()))
    add(guests.KERNEL.lstrip("/"), (folder / "vmlinuz").read_bytes())
    add(guests.INITRD.lstrip("/"), guests.initramfs(rootfs))
    for guest in GUESTS:
        add(
            f"{guests.FOLDER.lstrip('/')}/{guest.name}.xml",
            guests.domain_xml(guest, hap=release.hap),
        )
    units = additions / "etc/systemd/system"
    for name in dom0_config.MASKED_UNITS:
        _link(units / name, "/dev/null")
    for name, unit in dom0_config.ENABLED_UNITS.items():
        _link(units / name, f"/usr/lib/systemd/system/{unit}")
    _link(units / "default.target", "/usr/lib/systemd/system/multi-user.target")


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _pack(rootfs: Path, additions: Path, folder: Path) -> None:
    """Merge `rootfs` and `additions`, and make the disk of it."""
    why = "pack dom0's disk with the right owners"
    merged = folder / "root"
    image = folder / "root.img"
    image.touch()
    os.truncate(image, _DISK_BYTES)
    steps: tuple[list[str], ...] = (
        ["cp", "-a", "--reflink=auto", "--", str(rootfs), str(merged)],
        ["find", str(merged / "etc/ssh"), "-name", "ssh_host_*", "-delete"],
        ["cp", "-r", "--no-dereference", "--preserve=mode,links", "--remove-destination",
         "--no-preserve=ownership", "--", f"{additions}/.", str(merged)],
        # A throw-away disk needs no journal, and no background work on its first boot.
        ["mkfs.ext4", "-q", "-F", "-L", "dom0", "-O", "^has_journal",
         "-E", "lazy_itable_init=0,root_owner=0:0", "-d", str(merged), str(image)],
        ["chown", f"{os.getuid()}:{os.getgid()}", str(image)],
        ["rm", "-rf", "--one-file-system", "--", str(merged), str(additions)],
    )  # fmt: skip
    for argv in steps:
        as_root(argv, why=why)


def _make_usb_disk(folder: Path) -> None:
    image = folder / "usb.img"
    image.touch()
    os.truncate(image, _USB_BYTES)
    run(["mkfs.ext4", "-q", "-F", "-L", USB_LABEL, str(image)])
