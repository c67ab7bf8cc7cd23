"""How dom0 differs from a fresh Debian: its configuration files, as text.

Two aims: the devices behave as on a real host (predictable names, no xen-pciback loaded, nothing
held back for guests), and it boots fast under emulation.
"""

from .machine import (
    DEVICES,
    HUB,
    MANAGEMENT,
    MANAGEMENT_ADDRESS,
    PEER_ADDRESS,
    PEER_NAME,
)

# Units that only cost time in a machine that is thrown away.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "libvirt-guests.service",
    "logrotate.timer",
    "sshd-keygen.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "xendomains.service",
)

ENABLED_UNITS = {
    "multi-user.target.wants/systemd-networkd.service": "systemd-networkd.service",
    "sockets.target.wants/systemd-networkd.socket": "systemd-networkd.socket",
}

_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
# Sessions of PAM and logind cost a second each under emulation.
UsePAM no
PrintMotd no
MaxSessions 50
MaxStartups 50
"""

_MODPROBE = """\
# The QEMU that xen.service starts for dom0's own disks offers dom0 a network card too (QEMU 10):
# one that leads nowhere, and that the boot waits for.
blacklist xen-netfront
# Its alias takes in every card of ATI. Unpacking it costs a minute under emulation, and it drives none from 1999.
blacklist amdgpu
"""

INITRAMFS_INIT = """\
#!/bin/busybox sh
# Mounts dom0's root disk and goes on there.
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
while read -r module; do
    /bin/busybox insmod "/lib/modules/$module"
done < /lib/modules/order
until [ -b /dev/vda ]; do
    /bin/busybox usleep 20000
done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox umount /proc
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""

# What dom0's initramfs loads to reach its root disk. crc32c first: ext4 asks for it by name.
INITRAMFS_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4")


def configuration(*, authorized_key: str, host_key: str, penalties: bool) -> dict[str, str]:
    """dom0's configuration files by path.

    `host_key` is the private key that its sshd shows; `penalties`: that sshd is one (since 9.8) that turns away whoever
    only asked whether it listens.
    """
    management = next(device for device in DEVICES if device.network == MANAGEMENT)
    peer = next(device for device in DEVICES if device.network == HUB)
    gateway = MANAGEMENT_ADDRESS.rpartition(".")[0] + ".2"
    return {
        "etc/fstab": "/dev/vda / ext4 defaults,noatime 0 0\n",
        "etc/hostname": "dom0\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 dom0\n",
        "etc/machine-id": "cede1ab0cede1ab0cede1ab0cede1ab0\n",
        "etc/modprobe.d/lab.conf": _MODPROBE,
        "etc/ssh/sshd_config.d/lab.conf": _SSHD + ("PerSourcePenalties no\n" if penalties else ""),
        "etc/ssh/ssh_host_ed25519_key": host_key,
        "root/.ssh/authorized_keys": authorized_key,
        "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=volatile\n",
        "etc/systemd/network/10-management.network": (
            f"[Match]\nMACAddress={management.mac}\n\n"
            f"[Network]\nAddress={MANAGEMENT_ADDRESS}/24\nGateway={gateway}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        ),
        "etc/systemd/network/10-lab0.link": (
            f"[Match]\nMACAddress={peer.mac}\n\n[Link]\nName={PEER_NAME}\n"
        ),
        "etc/systemd/network/10-lab0.network": (
            f"[Match]\nName={PEER_NAME}\n\n"
            f"[Network]\nAddress={PEER_ADDRESS}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        ),
    }


def cpu_map_without_vme(text: str) -> str:
    """libvirt's oldest CPU model without `vme`, a feature that QEMU's emulation lacks.

    With it libvirt finds no model that fits this host ("Cannot find suitable CPU model for given
    data"), and its Xen driver does not start.
    """
    return "".join(line for line in text.splitlines(keepends=True) if "'vme'" not in line)
