"""The lab's machine as data: devices, guests and the two dom0 releases, all in one place.

Tests, the demo and other scripts count on these addresses and names. A change here changes what
is built from it: the lab notices and rebuilds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One emulated PCI function.

    `address` is where dom0 finds it; `network` is the virtual network it is plugged into, if it
    is a NIC that is plugged into any; `drive` is the disk behind it, if it has one. `in_snapshot`:
    whether QEMU writes its state into a snapshot.
    """

    address: str
    model: str
    purpose: str
    network: str = ""
    drive: str = ""
    options: tuple[str, ...] = ()
    in_snapshot: bool = True

    @property
    def id(self) -> str:
        """QEMU's id for it, the same as libvirt's node device name in dom0."""
        return "pci_" + self.address.replace(":", "_").replace(".", "_")

    @property
    def is_nic(self) -> bool:
        """Whether it is a network card."""
        return self.model in {"virtio-net-pci", "e1000", "e1000e", "igb"}

    @property
    def mac(self) -> str:
        """A MAC address that tells where the NIC sits."""
        _, bus, rest = self.address.split(":")
        slot, function = rest.split(".")
        return f"52:54:00:{bus}:{slot}:0{function}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge, and the number of the bus behind it; a PCIe root port, unless `model` says otherwise.

    `has_slot`: whether QEMU counts it among those with a slot, by a chassis number. `in_snapshot`: as of a device.
    """

    address: str
    bus: int
    model: str = "pcie-root-port"
    has_slot: bool = True
    options: tuple[str, ...] = ()
    in_snapshot: bool = True

    @property
    def id(self) -> str:
        """QEMU's id for it: what a device is hot-added behind by QMP."""
        return f"{'rp' if self.model == 'pcie-root-port' else 'bridge'}{self.bus}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest of the lab.

    `passthrough` is the libvirt feature that hot-plug needs at boot, `e820_host` the one that keeps a PV guest's
    memory clear of the BARs. `running`: whether it runs in the pristine snapshot.
    """

    name: str
    hvm: bool = False
    passthrough: bool = True
    e820_host: bool = True
    login: bool = False
    memory_mib: int = 256
    running: bool = True

    @property
    def console(self) -> str:
        """The terminal in the guest that libvirt's console leads to."""
        return "ttyS0" if self.hvm else "hvc0"

    @property
    def ready_prompt(self) -> str:
        """What its console shows when it waits for input."""
        return f"{self.name} login: " if self.login else f"{self.name}:~# "


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What differs between the two Debian releases that dom0 can be.

    `hap`: whether an HVM guest gets nested paging (hardware-assisted paging), or Xen's shadow page tables instead.
    """

    suite: str
    xen: str
    python: str
    hap: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """Everything that is installed in dom0 on top of a minimal Debian."""
        return (f"xen-hypervisor-{self.xen}-amd64", f"xen-utils-{self.xen}", *DOM0_PACKAGES)


DOM0_PACKAGES = (
    "busybox-static",
    "dropbear-bin",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libvirt-clients",
    "libvirt-daemon-driver-xen",
    "libvirt-daemon-system",
    "linux-image-amd64",
    "lvm2",
    "openssh-server",
    "pciutils",
    "python3-click",
    "python3-h11",
    "python3-jsonschema",
    "python3-libvirt",
    "python3-lxml",
    "python3-rich",
    "python3-tenacity",
    "python3-yaml",
    "qemu-system-xen",
    "systemd-sysv",
    "udev",
)

RELEASES = {
    "trixie": Release(suite="trixie", xen="4.20", python="3.13"),
    # With Xen 4.17's nested paging on the emulated SVM of QEMU 10, Linux resets itself right after it is unpacked.
    "bookworm": Release(suite="bookworm", xen="4.17", python="3.11", hap=False),
}
DEFAULT_RELEASE = "trixie"

# The two virtual networks. Nothing that is sent on either leaves QEMU: the first only forwards
# ssh from 127.0.0.1 into dom0, the second is a hub that the lab's NICs share.
MANAGEMENT = "management"
HUB = "hub"

MANAGEMENT_ADDRESS = "10.0.2.15"
PEER_NAME = "lab0"
PEER_ADDRESS = "10.77.0.1/24"

ROOT_DISK = "disk"
USB_DISK = "usb"

BRIDGES = (
    Bridge(address="0000:00:08.0", bus=0x01),
    Bridge(address="0000:00:09.0", bus=0x02),
    Bridge(address="0000:00:0a.0", bus=0x03),  # empty: for hot-add and surprise removal
    *(Bridge(address=f"0000:00:{slot:02x}.0", bus=slot - 7) for slot in range(0x0B, 0x10)),
    Bridge(address="0000:00:13.0", bus=0x09),
    Bridge(address="0000:00:14.0", bus=0x0A),
    # a PCIe switch
    Bridge(address="0000:00:15.0", bus=0x0B),
    Bridge(address="0000:0b:00.0", bus=0x0C, model="x3130-upstream", has_slot=False),
    Bridge(address="0000:0c:00.0", bus=0x0D, model="xio3130-downstream"),
    Bridge(address="0000:0c:01.0", bus=0x0E, model="xio3130-downstream"),
    # a PCIe-to-PCI bridge
    Bridge(address="0000:00:16.0", bus=0x0F),
    Bridge(address="0000:0f:00.0", bus=0x10, model="pcie-pci-bridge", has_slot=False),
    # a second root complex; QEMU lets nothing but bridges sit on its root bus
    Bridge(
        address="0000:00:17.0",
        bus=0x80,
        model="pxb-pcie",
        has_slot=False,
        options=("bus_nr=0x80",),
        in_snapshot=False,
    ),
    Bridge(address="0000:80:00.0", bus=0x81),
)

DEVICES = (
    Device(address="0000:00:01.0", model="VGA", purpose="dom0's display"),
    Device(
        address="0000:00:02.0",
        model="virtio-net-pci",
        network=MANAGEMENT,
        purpose="the NIC that dom0 is reached by: must be refused",
    ),
    Device(
        address="0000:00:03.0",
        model="virtio-blk-pci",
        drive=ROOT_DISK,
        purpose="dom0's root disk: must be refused",
    ),
    Device(
        address="0000:00:04.0",
        model="virtio-net-pci",
        network=HUB,
        purpose="lab0, the peer of the NICs on the hub: proves that packets flow",
    ),
    Device(
        address="0000:00:10.0",
        model="e1000",
        purpose="no reset of any kind: libvirt refuses to attach it",
    ),
    Device(
        address="0000:00:11.0",
        model="e1000e",
        network=HUB,
        purpose="on bus 0, PM reset",
    ),
    Device(
        address="0000:00:12.0",
        model="qemu-xhci",
        drive=USB_DISK,
        purpose="a controller: the disk on it goes with it",
    ),
    Device(
        address="0000:01:00.0",
        model="e1000e",
        network=HUB,
        purpose="behind its own root port: the easy case",
    ),
    Device(
        address="0000:02:00.0",
        model="e1000",
        purpose="siblings on one bus, bus reset only",
        options=("multifunction=on",),
    ),
    Device(
        address="0000:02:00.1",
        model="e1000",
        purpose="siblings on one bus, bus reset only",
    ),
    *(
        Device(
            address=f"0000:{bus:02x}:00.0",
            model="e1000e",
            purpose="behind its own root port, on no wire: for many at once",
        )
        for bus in range(4, 9)
    ),
    Device(
        address="0000:09:00.0",
        model="ati-vga",
        purpose="the graphics card of 2012: bus reset only",
        options=("multifunction=on",),
        in_snapshot=False,
    ),
    Device(address="0000:09:00.1", model="intel-hda", purpose="the sound of that graphics card"),
    Device(
        address="0000:0a:00.0",
        model="igb",
        network=HUB,
        purpose="SR-IOV: 7 virtual functions; resets by itself (FLR)",
    ),
    *(
        Device(
            address=f"0000:{bus:02x}:00.0",
            model="e1000e",
            purpose="behind a PCIe switch",
        )
        for bus in (0x0D, 0x0E)
    ),
    *(
        Device(
            address=f"0000:10:{slot:02x}.0",
            model="e1000",
            purpose="conventional PCI: its neighbour has the same requester id",
        )
        for slot in (1, 2)
    ),
    Device(
        address="0000:81:00.0",
        model="e1000e",
        purpose="behind a root port of the second root complex",
    ),
)

GUESTS = (
    Guest(name="pv1"),
    Guest(name="pv2", login=True),
    Guest(name="pv3", passthrough=False),
    Guest(name="hvm1", hvm=True),
    # more memory than lies below the BARs, and no map of the host's: they collide
    Guest(name="pv4", e820_host=False, memory_mib=4200, running=False),
)

# Those that run in the pristine snapshot.
RUNNING_GUESTS = tuple(guest for guest in GUESTS if guest.running)

# crypt(3) of the password `lab`, which is no secret: it opens a guest that only dom0 can reach.
GUEST_LOGIN = (
    "$6$cedelab$4XMhrz4rUrmbGLfSHOOLOWLeVbrbeQ2Eyx5gYjSThHD3AoE3v"
    ".RIZF5wVk4PryM9RLWsIuKKxm7UT5R3PNG5q0"
)

# Emulated processors that wait for each other cost more than they bring: 20 forks took 8 s with two and 0.6 s with one
# where two labs shared two processors of the machine.
CPUS = 1
MEMORY_MIB = 8192  # the machine has it from its host only as it is used
DOM0_MEMORY_MIB = 1536


def device_at(address: str) -> Device:
    """The device at `address`; KeyError if the machine has none there."""
    return {device.address: device for device in DEVICES}[address]
