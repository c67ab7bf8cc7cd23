"""The guests: their initramfs, and their libvirt domain XML.

All run Debian's own kernel on one initramfs of busybox, lspci, xenstore's tools, cede's helper and an ssh
server that waits to be started; the kernel's command line tells each its name and whether its console asks for a
login. They keep nothing: a guest that is
started again is as new.
"""

import gzip
from pathlib import Path
from xml.etree import ElementTree as ET

from . import root_programs
from .cpio import Archive
from .kernel_modules import index, kernel_version, resolve
from .machine import GUEST_LOGIN, Guest

# Where dom0 keeps what the guests boot.
FOLDER = "/var/lib/libvirt/lab"
KERNEL = f"{FOLDER}/vmlinuz"
INITRD = f"{FOLDER}/initrd.img"

_PROGRAMS = ("usr/bin/lspci", "usr/bin/xenstore", "usr/sbin/dropbear")
_XENSTORE_TOOLS = ("xenstore-read", "xenstore-rm", "xenstore-watch", "xenstore-write")
HELPER = Path(__file__).parents[1] / "guest/cede-guest"
# Drivers for every device of the lab that can be given to a guest.
_MODULES = (
    "xen-pcifront", "e1000e", "e1000", "igb", "igbvf", "xhci-pci", "usb-storage", "sd_mod", "nvme",
    "snd-hda-intel", "snd-hda-codec-generic",
)  # fmt: skip

_INIT = """\
#!/bin/busybox sh
# The guest's first process: prepares the system, then hands over to busybox's init.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s 2>/dev/null
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts

while read -r module; do
    insmod "/lib/modules/$(uname -r)/$module"
done < /etc/modules

for word in $(cat /proc/cmdline); do
    case $word in
        console=*) console=${word#console=} ;;
        lab.name=*) hostname "${word#lab.name=}" ;;
        lab.login) login=yes ;;
    esac
done
ip link set lo up

{
    if [ "$login" ]; then
        echo "$console::respawn:/sbin/getty -L 0 $console vt100"
    else
        echo "$console::respawn:-/bin/sh"
    fi
    # without Xen's drivers (xen_nopv) there is no xenstore
    [ -e /dev/xen/xenbus ] && echo "::respawn:/usr/sbin/cede-guest"
    echo "::ctrlaltdel:/sbin/reboot -f"
} > /etc/inittab
exec /sbin/init
"""

_PROFILE = """\
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\h:\\w# '
cd
"""


def initramfs(root: Path) -> bytes:
    """The initramfs that all guests boot, made of the files of dom0's `root`.

    Compressed, because an HVM guest gets it byte by byte through an emulated port.
    """
    archive = Archive()
    for folder in ("bin", "dev", "etc", "proc", "root", "sbin", "sys", "usr/bin", "usr/sbin"):
        archive.add_folder(folder)
    archive.add_file("init", _INIT, executable=True)
    archive.add_file("bin/busybox", (root / "usr/bin/busybox").read_bytes(), executable=True)
    archive.add_file("usr/share/misc/pci.ids", (root / "usr/share/misc/pci.ids").read_bytes())
    _add_programs(archive, root)
    archive.add_file("usr/sbin/cede-guest", HELPER.read_bytes(), executable=True)
    folder = f"lib/modules/{kernel_version(root)}"
    modules = resolve(root, _MODULES)
    for module in modules:
        archive.add_file(f"{folder}/{module.name}.ko", module.content)
    archive.add_file("etc/modules", "".join(f"{module.name}.ko\n" for module in modules))
    for name, content in index(root, modules).items():
        archive.add_file(f"{folder}/{name}", content)
    archive.add_file("etc/profile", _PROFILE)
    archive.add_file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    archive.add_file("etc/group", "root:x:0:\n")
    archive.add_file("etc/shadow", f"root:{GUEST_LOGIN}:20000:0:99999:7:::\n")
    return gzip.compress(archive.finish(), mtime=0)


def domain_xml(guest: Guest, *, hap: bool = True) -> str:
    """The guest as libvirt is told of it; an HVM guest without `hap` runs on Xen's shadow page tables."""
    domain = ET.Element("domain", type="xen")
    ET.SubElement(domain, "name").text = guest.name
    ET.SubElement(domain, "memory", unit="MiB").text = str(guest.memory_mib)
    ET.SubElement(domain, "vcpu").text = "1"
    system = ET.SubElement(domain, "os")
    machine = "xenfv" if guest.hvm else "xenpv"
    kind = ET.SubElement(system, "type", arch="x86_64", machine=machine)
    kind.text = "hvm" if guest.hvm else "linux"
    if guest.hvm:
        ET.SubElement(system, "loader", type="rom").text = "/usr/lib/xen/boot/hvmloader"
    ET.SubElement(system, "kernel").text = KERNEL
    ET.SubElement(system, "initrd").text = INITRD
    ET.SubElement(system, "cmdline").text = _kernel_command_line(guest)
    features = ET.SubElement(domain, "features")
    if guest.hvm:
        ET.SubElement(features, "acpi")
        if not hap:
            ET.SubElement(features, "hap", state="off")
    if guest.passthrough:
        xen = ET.SubElement(features, "xen")
        if guest.e820_host and not guest.hvm:
            ET.SubElement(xen, "e820_host", state="on")
        ET.SubElement(xen, "passthrough", state="on")
    devices = ET.SubElement(domain, "devices")
    if guest.hvm:
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial" if guest.hvm else "xen", port="0")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _kernel_command_line(guest: Guest) -> str:
    words = [f"console={guest.console}", "quiet", f"lab.name={guest.name}"]
    if guest.login:
        words.append("lab.login")
    if guest.hvm:
        # Under emulated SVM the kernel resets itself without these.
        words += ["xen_nopv", "noapic", "mitigations=off"]
    return " ".join(words)


def _add_programs(archive: Archive, root: Path) -> None:
    """The programs, with the libraries that they load."""
    loader = root_programs.loader(root).read_bytes()
    archive.add_file("lib64/ld-linux-x86-64.so.2", loader, executable=True)
    libraries: dict[str, Path] = {}
    for program in _PROGRAMS:
        archive.add_file(program, (root / program).read_bytes(), executable=True)
        libraries |= {found.name: found for found in root_programs.libraries(root, program)}
    for name, library in sorted(libraries.items()):
        archive.add_file(f"lib/x86_64-linux-gnu/{name}", library.read_bytes())
    for tool in _XENSTORE_TOOLS:
        archive.add_link(f"usr/bin/{tool}", "xenstore")
    archive.add_folder("etc/dropbear")
