"""QEMU's command line for the lab's machine.

Emulation only (TCG): nested virtualisation is not to be had on most machines that tests run on,
and one way to run is one way to be tested. All files are named relative to the folder that QEMU
runs in: commas and spaces in the user's paths mean nothing to QEMU then, and the command line is
the same on every machine, so that it can be an input of the snapshot.
"""

from .machine import (
    BRIDGES,
    CPUS,
    DEVICES,
    DOM0_MEMORY_MIB,
    HUB,
    MANAGEMENT,
    MANAGEMENT_ADDRESS,
    MEMORY_MIB,
    Bridge,
    Device,
)

# Names in QEMU's folder.
KERNEL_FILES = ("xen", "vmlinuz", "initrd.img")
QMP_SOCKET = "qmp.sock"
CONSOLE_LOG = "console.log"
STATE = "state"
TAG = "cede-lab"

# The CPU: Opteron_G3 is new enough for SVM and NPT, and old enough to have nothing (SMAP) that
# dom0 trips over under emulation.
_CPU = "Opteron_G3,+svm,+npt"
_XEN = (
    f"console=com1 com1=115200 dom0_mem={DOM0_MEMORY_MIB}M,max:{DOM0_MEMORY_MIB}M "
    f"dom0_max_vcpus={CPUS} bootscrub=off spec-ctrl=no xpti=off sched=credit"
)
_DOM0 = (
    "root=/dev/vda rw console=hvc0 loglevel=4 mitigations=off nokaslr "
    "systemd.show_status=0 systemd.getty_auto=no"
)

# A hub passes nothing on while none of its ports can receive, as when all NICs but the sender are
# down: dom0 would report transmit timeouts of its peer. This port swallows everything, always.
_HUB_SINK = (
    "user,id=sink,restrict=on,ipv6=off,net=192.0.2.0/24",
    "hubport,id=net_sink,hubid=0,netdev=sink",
)

# What a sound card plays is heard by nobody.
_NO_SOUND = "none,id=no_sound"

# Each page of memory has its own place in the snapshot's file, from where it is read into the machine's memory at once.
# The file has holes where the machine's memory is empty: it is 8 GiB long, and takes as much room as was used.
_SNAPSHOT = "migration.mapped-ram=on"

# For an NVMe with virtual functions, which can only be hot-added: its state fits in no snapshot.
_NVME_SUBSYSTEM = "nvme-subsys,id=nvme_subsystem"


def disk_file(drive: str) -> str:
    """The file of `drive` in QEMU's folder: an overlay, which takes all writes."""
    return f"{drive}.qcow2"


def arguments(*, ssh_port: int, restore: bool) -> list[str]:
    """QEMU's arguments for the whole machine, with dom0's sshd at `ssh_port` of 127.0.0.1.

    `restore`: wait for the snapshot in the file `state` to be loaded, instead of booting.
    """
    argv = ["-name", TAG, "-nodefaults", "-no-user-config"]
    argv += ["-machine", "q35,kernel-irqchip=off"]
    argv += ["-accel", "tcg,thread=multi,tb-size=1024"]
    argv += ["-cpu", _CPU, "-smp", str(CPUS), "-m", str(MEMORY_MIB)]
    argv += ["-display", "none"]
    argv += ["-global", _SNAPSHOT]
    argv += ["-chardev", f"file,id=console,path={CONSOLE_LOG}", "-serial", "chardev:console"]
    argv += ["-qmp", f"unix:{QMP_SOCKET},server=on,wait=off"]
    argv += ["-kernel", "xen", "-append", _XEN, "-initrd", f"vmlinuz {_DOM0},initrd.img"]
    argv += ["-device", "intel-iommu,intremap=on"]
    argv += ["-netdev", _management_network(ssh_port)]
    argv += [word for netdev in _HUB_SINK for word in ("-netdev", netdev)]
    argv += ["-device", _NVME_SUBSYSTEM]
    argv += ["-audiodev", _NO_SOUND]
    for bridge in BRIDGES:
        argv += ["-device", _bridge(bridge)]
    for device in DEVICES:
        argv += _device(device)
    if restore:
        argv += ["-incoming", f"file:{STATE}"]
    return argv


def _management_network(ssh_port: int) -> str:
    forward = f"hostfwd=tcp:127.0.0.1:{ssh_port}-{MANAGEMENT_ADDRESS}:22"
    return f"user,id={MANAGEMENT},restrict=on,{forward}"


def _device(device: Device) -> list[str]:
    words = [device.model, f"id={device.id}", _place(device.address), *device.options]
    argv: list[str] = []
    if device.network == HUB:
        argv += ["-netdev", f"hubport,id=net_{device.id},hubid=0"]
        words.append(f"netdev=net_{device.id}")
    elif device.network:
        words.append(f"netdev={device.network}")
    if device.is_nic:
        # Without a boot ROM the firmware has nothing to wait for.
        words += [f"mac={device.mac}", "romfile="]
    if device.drive:
        file = disk_file(device.drive)
        argv += ["-drive", f"id={device.drive},if=none,format=qcow2,cache=unsafe,file={file}"]
    if device.model == "qemu-xhci":
        argv += ["-device", ",".join(words)]
        return [*argv, "-device", f"usb-storage,bus={device.id}.0,drive={device.drive}"]
    if device.model == "intel-hda":
        argv += ["-device", ",".join(words)]
        return [*argv, "-device", f"hda-output,bus={device.id}.0,audiodev=no_sound"]
    if device.drive:
        words.append(f"drive={device.drive}")
    return [*argv, "-device", ",".join(words)]


def _bridge(bridge: Bridge) -> str:
    words = [bridge.model, f"id={bridge.id}", _place(bridge.address), *bridge.options]
    if bridge.has_slot:
        words.append(f"chassis={bridge.bus}")
    return ",".join(words)


def _place(address: str) -> str:
    """Where QEMU is to put what dom0 shall find at `address`."""
    _, bus, rest = address.split(":")
    slot, function = (int(part, 16) for part in rest.split("."))
    above = {bridge.bus: bridge.id for bridge in BRIDGES}.get(int(bus, 16), "pcie.0")
    return f"bus={above},addr=0x{slot:x}.0x{function:x}"
