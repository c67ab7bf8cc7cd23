"""The uses that dom0 can be made to make of its devices: how each begins and ends, and the guard that must speak."""

from __future__ import annotations

from typing import NamedTuple

NIC, OTHER_NIC, DISK = "0000:01:00.0", "0000:00:11.0", "0000:00:12.0"
PACKAGES = ("nfs-kernel-server", "open-iscsi", "openvswitch-switch", "tgt")

# $nic and $other are on one wire with lab0, which gets a network namespace of its own: the host at the other end. QEMU
# has another on that wire, which refuses every TCP connection, and which is therefore not listened to.
COMMON = """\
nic=enp1s0 other=enp0s17
peer() { ip netns exec peer "$@"; }
within() { n=$1; shift; until "$@" > /tmp/within 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || { cat /tmp/within; return 1; }
sleep 0.2; done; }
stays() { setsid "$@" > /dev/null 2>&1 < /dev/null & echo $! > /tmp/stays; }
end() { kill $(cat /tmp/stays); within 50 sh -c "! kill -0 $(cat /tmp/stays)"; }
"""
PREPARED = """\
deaf() { "$@" tc qdisc add dev $port clsact; "$@" tc filter add dev $port ingress protocol all flower \
src_mac 52:55:00:00:00:00/ff:ff:00:00:00:00 action drop; }
ip netns add peer; ip link set lab0 netns peer
peer ip addr add 10.77.0.1/24 dev lab0; peer ip link set lab0 up; peer ip link set lo up
ip link set $nic up; ip addr add 10.77.0.2/24 dev $nic
port=$nic deaf; port=lab0 deaf peer
within 100 ping -c 1 -W 1 10.77.0.1
mkdir -p /mnt/a /srv/export /run/openvswitch /etc/openvswitch /var/lib/nfs/v4recovery
truncate -s 64M /var/tmp/lun; echo '/srv/export *(rw,fsid=0,no_subtree_check,no_root_squash)' > /etc/exports
peer sh -ec 'tgtd; until tgtadm --op new --mode target --tid 1 -T iqn.2012-01.lab:disk; do sleep 0.2; done
tgtadm --op new --mode logicalunit --tid 1 --lun 1 -b /var/tmp/lun; tgtadm --op bind --mode target --tid 1 -I ALL'
iscsid; iscsiadm -m discovery -t st -p 10.77.0.1
"""
LOGIN = "iscsiadm -m node -l; within 50 test -b /dev/sdb"
LOGOUT = "iscsiadm -m node -u"
CONFIG = "/sys/kernel/config"
MOUNTED = "mkfs.ext4 -q -F /dev/sda; mount /dev/sda /mnt/a"


class Scene(NamedTuple):
    """A use by its name, how dom0 comes to make it and ends it, the guard that must speak, and for which device."""

    name: str
    guard: str
    address: str
    begin: str
    end: str


SCENES = (
    Scene("nothing", "", "", "true", "true"),
    # -- disks
    Scene("disk-mounted", "filesystem", DISK, MOUNTED, "umount /mnt/a"),
    Scene(
        "disk-mounted-in-another-namespace",
        "filesystem",
        DISK,
        "mkfs.ext4 -q -F /dev/sda; stays unshare -m sh -c 'mount /dev/sda /mnt/a; touch /tmp/mounted; exec sleep 1000';"
        " within 50 test -e /tmp/mounted",
        "end; rm /tmp/mounted",
    ),
    Scene(
        "disk-under-a-loop-device",
        "backing",
        DISK,
        "modprobe loop; losetup --find --show /dev/sda > /tmp/loop",
        "losetup -d $(cat /tmp/loop)",
    ),
    Scene(
        "disk-with-a-file-under-a-mounted-loop-device",
        "filesystem",
        DISK,
        f"{MOUNTED}; truncate -s 4M /mnt/a/fs; mkfs.ext4 -q /mnt/a/fs; mkdir -p /mnt/b;"
        " mount -o loop /mnt/a/fs /mnt/b",
        "umount /mnt/b; rm /mnt/a/fs; umount /mnt/a",
    ),
    Scene(
        "disk-with-a-file-that-is-swap",
        "filesystem",
        DISK,
        f"{MOUNTED}; dd if=/dev/zero of=/mnt/a/swap bs=1M count=4; chmod 600 /mnt/a/swap;"
        " mkswap /mnt/a/swap; swapon /mnt/a/swap",
        "swapoff /mnt/a/swap; rm /mnt/a/swap; umount /mnt/a",
    ),
    Scene("disk-is-swap", "swap", DISK, "mkswap /dev/sda; swapon /dev/sda", "swapoff /dev/sda"),
    Scene(
        "disk-with-an-external-journal",
        "filesystem",
        DISK,
        "mke2fs -q -F -O journal_dev /dev/sda; truncate -s 32M /var/tmp/fs;"
        " mkfs.ext4 -q -J device=/dev/sda /var/tmp/fs; mount -o loop /var/tmp/fs /mnt/a",
        "umount /mnt/a; rm /var/tmp/fs",
    ),
    Scene(
        "disk-under-a-mounted-logical-volume",
        "filesystem",
        DISK,
        "dd if=/dev/zero of=/dev/sda bs=1M count=1; pvcreate -q -ff -y /dev/sda; vgcreate -q vg /dev/sda;"
        " lvcreate -q -y -L 8M -n lv vg; mkfs.ext4 -q /dev/vg/lv; mount /dev/vg/lv /mnt/a",
        "umount /mnt/a; vgchange -q -an vg",
    ),
    Scene(
        "disk-under-an-active-logical-volume",
        "member",
        DISK,
        "vgchange -q -ay vg",
        "vgremove -q -f -y vg; pvremove -q -ff -y /dev/sda",
    ),
    Scene(
        "disk-under-a-device-mapper-table",
        "member",
        DISK,
        "dmsetup create cede-test --table '0 2048 linear /dev/sda 0'",
        "dmsetup remove cede-test",
    ),
    Scene(
        "disk-that-a-process-has-open",
        "open",
        DISK,
        "stays sh -c 'exec sleep 1000 3< /dev/sda'; sleep 0.5",
        "end",
    ),
    Scene(
        "disk-exported-by-lio",
        "backing",
        DISK,
        f"modprobe target_core_iblock; d={CONFIG}/target/core/iblock_0/lun; mkdir -p $d;"
        " printf 'udev_path=/dev/sda,readonly=0' > $d/control; echo 1 > $d/enable",
        f"rmdir {CONFIG}/target/core/iblock_0/lun {CONFIG}/target/core/iblock_0",
    ),
    Scene(
        "disk-with-a-file-exported-by-lio",
        "filesystem",
        DISK,
        f"{MOUNTED}; truncate -s 4M /mnt/a/lun; modprobe target_core_file;"
        f" d={CONFIG}/target/core/fileio_0/lun; mkdir -p $d;"
        " printf 'fd_dev_name=/mnt/a/lun,fd_dev_size=4194304' > $d/control; echo 1 > $d/enable",
        f"rmdir {CONFIG}/target/core/fileio_0/lun {CONFIG}/target/core/fileio_0; rm /mnt/a/lun; umount /mnt/a",
    ),
    Scene(
        "disk-exported-by-nvmet",
        "backing",
        DISK,
        f"modprobe nvmet; d={CONFIG}/nvmet/subsystems/lab; mkdir -p $d/namespaces/1;"
        " printf /dev/sda > $d/namespaces/1/device_path; echo 1 > $d/namespaces/1/enable",
        f"rmdir {CONFIG}/nvmet/subsystems/lab/namespaces/1 {CONFIG}/nvmet/subsystems/lab",
    ),
    Scene(
        "disk-exported-by-tgtd",
        "open",
        DISK,
        "tgtadm --op new --mode logicalunit --tid 1 --lun 2 -b /dev/sda",
        "tgtadm --op delete --mode logicalunit --tid 1 --lun 2",
    ),
    Scene(
        "disk-of-a-guest-of-xl",
        "guest-disk",
        DISK,
        "boot=$(ls -d /var/lib/cede-lab/guests /boot/guests /srv/guests 2>/dev/null | head -n 1); k=$(virsh -q -c"
        " xen:///system dumpxml pv1 | sed -n 's,.*<kernel>\\(.*\\)</kernel>.*,\\1,p');"
        ' printf \'name="xg"\\ntype="pv"\\nmemory=128\\nkernel="%s"\\ndisk=["phy:/dev/sda,xvda,w"]\\n\' $k'
        " > /tmp/xg.cfg; xl create -p -q /tmp/xg.cfg",
        "xl destroy xg; within 50 sh -c '! xenstore-ls /local/domain/0/backend/vbd | grep -q sda'",
    ),
    Scene(
        "disk-unmounted-lazily-with-an-open-file",
        "held",
        DISK,
        f"{MOUNTED}; stays sh -c 'exec sleep 1000 > /mnt/a/file'; sleep 0.5; umount -l /mnt/a",
        "end",
    ),
    Scene(
        "disk-mounted-in-a-namespace-without-processes",
        "held",
        DISK,
        "mkfs.ext4 -q -F /dev/sda; mkdir -p /run/kept; mount -t tmpfs --make-private tmpfs /run/kept;"
        " touch /run/kept/ns; unshare --mount=/run/kept/ns mount /dev/sda /mnt/a",
        "umount /run/kept/ns; umount /run/kept",
    ),
    Scene(
        "disk-behind-zram",
        "backing",
        DISK,
        "modprobe zram; echo /dev/sda > /sys/block/zram0/backing_dev; echo 16M > /sys/block/zram0/disksize",
        "modprobe -r zram",
    ),
    Scene(
        "disk-encrypted",
        "member",
        DISK,
        "dmsetup create cede-crypt --table '0 2048 crypt cipher_null-ecb - 0 /dev/sda 0'",
        "dmsetup remove cede-crypt",
    ),
    # -- storage over a network
    Scene("iscsi-session-idle", "connection", NIC, LOGIN, LOGOUT),
    Scene(
        "iscsi-disk-mounted",
        "filesystem",
        NIC,
        f"{LOGIN}; mkfs.ext4 -q /dev/sdb; mount /dev/sdb /mnt/a",
        f"umount /mnt/a; {LOGOUT}",
    ),
    Scene(
        "iscsi-disk-is-swap",
        "swap",
        NIC,
        f"{LOGIN}; mkswap /dev/sdb; swapon /dev/sdb",
        f"swapoff /dev/sdb; {LOGOUT}",
    ),
    Scene(
        "nfs-mounted",
        "filesystem",
        NIC,
        "peer sh -ec 'mount -t nfsd nfsd /proc/fs/nfsd 2>/dev/null || true;"
        " rpc.mountd -N 3; exportfs -ra; rpc.nfsd -N 3 1';"
        " mount -t nfs4 -o soft,timeo=100 10.77.0.1:/ /mnt/a",
        "umount /mnt/a; peer sh -c 'mount -t nfsd nfsd /proc/fs/nfsd; rpc.nfsd 0; pkill rpc.mountd'",
    ),
    # -- networks
    Scene(
        "default-route-on-an-open-vswitch-bridge",
        "default-route",
        OTHER_NIC,
        "[ -e /etc/openvswitch/conf.db ] || ovsdb-tool create /etc/openvswitch/conf.db"
        " /usr/share/openvswitch/vswitch.ovsschema; ovsdb-server --remote=punix:/run/openvswitch/db.sock --pidfile"
        " --detach --no-chdir; ovs-vsctl --no-wait init; ovs-vswitchd --pidfile --detach 2> /dev/null;"
        " ovs-vsctl add-br br0; ovs-vsctl add-port br0 $other; ip link set $other up;"
        " ip addr add 198.51.100.9/24 dev br0; ip link set br0 up; ip route add default via 198.51.100.1 metric 500",
        "ovs-vsctl del-br br0; ovs-appctl -t ovs-vswitchd exit; ovs-appctl -t ovsdb-server exit;"
        " ip link set $other down",
    ),
    Scene(
        "second-next-hop-of-a-route",
        "route",
        NIC,
        "ip route add 203.0.113.0/24 nexthop via 10.0.2.2 nexthop via 10.77.0.1",
        "ip route del 203.0.113.0/24",
    ),
    Scene(
        "default-route-by-a-next-hop-object-in-another-table",
        "default-route",
        NIC,
        "ip nexthop add id 7 via 10.77.0.1 dev $nic; ip route add default nhid 7 table 77",
        "ip route del default table 77; ip nexthop del id 7",
    ),
    Scene(
        "route-of-ipv6",
        "route",
        NIC,
        "ip -6 addr add fd77::2/64 dev $nic nodad; ip -6 route add fd78::/64 via fd77::1",
        "ip -6 route del fd78::/64; ip -6 addr del fd77::2/64 dev $nic",
    ),
    *(
        Scene(
            f"default-route-on-{name}",
            "default-route",
            OTHER_NIC,
            f"ip link set $other down; {make}; ip link set $other up; ip addr add 198.51.100.9/24 dev top;"
            " ip link set top up; ip route add default via 198.51.100.1 metric 500",
            "ip link del top; ip link set $other nomaster 2>/dev/null; ip link del low 2>/dev/null || true;"
            " ip link set $other down",
        )
        for name, make in (
            ("a-vlan", "ip link add link $other name top type vlan id 7"),
            ("a-bond", "ip link add top type bond; ip link set $other master top"),
            ("a-bridge", "ip link add top type bridge; ip link set $other master top"),
            ("a-macvlan", "ip link add link $other name top type macvlan"),
            ("an-ipvlan", "ip link add link $other name top type ipvlan"),
            ("macsec", "ip link add link $other name top type macsec"),
            ("a-macvtap", "ip link add link $other name top type macvtap"),
            (
                "a-vlan-on-a-bridge",
                """ip link add low type bridge; ip link set $other master low; ip link set low up
                ip link add link low name top type vlan id 9""",
            ),
            ("a-team", "ip link add top type team; ip link set $other master top"),
        )
    ),
    *(
        Scene(
            f"default-route-through-{name}",
            "default-route",
            NIC,
            f"{make}; ip addr add 198.51.100.9/24 dev top; ip link set top up;"
            " ip route add default via 198.51.100.1 metric 500",
            "ip link del top",
        )
        for name, make in (
            (
                "vxlan",
                "ip link add top type vxlan id 7 remote 10.77.0.1 local 10.77.0.2 dstport 4789",
            ),
            ("gre", "ip link add top type gretap remote 10.77.0.1 local 10.77.0.2"),
            ("ipip", "ip link add top type ipip remote 10.77.0.1 local 10.77.0.2"),
            ("geneve", "ip link add top type geneve id 7 remote 10.77.0.1"),
        )
    ),
    Scene(
        "default-route-in-a-vrf",
        "default-route",
        OTHER_NIC,
        "ip link add top type vrf table 88; ip link set top up; ip link set $other master top; ip link set $other up;"
        " ip addr add 198.51.100.9/24 dev $other; ip route add default via 198.51.100.1 table 88",
        "ip link del top; ip addr flush dev $other; ip link set $other down",
    ),
    Scene(
        "ipsec-tunnel",
        "connection",
        NIC,
        "ip xfrm state add src 10.77.0.2 dst 10.77.0.1 proto esp spi 7 mode tunnel enc 'ecb(cipher_null)' ''",
        "ip xfrm state flush",
    ),
    Scene(
        "route-with-mpls",
        "route",
        NIC,
        "modprobe mpls_iptunnel; ip route add 203.0.113.0/24 encap mpls 100 via 10.77.0.1",
        "ip route del 203.0.113.0/24",
    ),
    Scene(
        "container-on-a-bridge",
        "guest-network",
        OTHER_NIC,
        "ip link add xb type bridge; ip link set xb up; ip link set $other master xb; ip link set $other up;"
        " ip netns add box; ip link add ve0 type veth peer name ve1 netns box; ip link set ve0 master xb;"
        " ip link set ve0 up; ip -n box link set ve1 up",
        "ip netns del box; ip link del xb; ip link set $other down",
    ),
    Scene(
        "l2tp-tunnel",
        "connection",
        NIC,
        "modprobe l2tp_eth; ip l2tp add tunnel tunnel_id 7 peer_tunnel_id 8 encap ip local 10.77.0.2 remote 10.77.0.1",
        "ip l2tp del tunnel tunnel_id 7",
    ),
    Scene(
        "interface-in-another-namespace",
        "namespace",
        OTHER_NIC,
        "ip link set $other netns peer",
        "ip -n peer link set $other netns 1; within 50 test -e /sys/class/net/$other",
    ),
    Scene(
        "tcp-connection",
        "connection",
        NIC,
        "stays sh -c 'sleep 1000 | busybox nc 10.77.0.1 3260'; within 50 sh -c 'ss -Htn dst 10.77.0.1 | grep -q ESTAB'",
        "kill -- -$(cat /tmp/stays)",
    ),
    Scene(
        "netconsole",
        "console",
        NIC,
        "modprobe netconsole netconsole=@10.77.0.2/$nic,@10.77.0.1/",
        "modprobe -r netconsole",
    ),
    Scene(
        "bridge-with-a-guest-of-xl",
        "guest-network",
        OTHER_NIC,
        "ip link add xb type bridge; ip link set xb up; ip link set $other master xb; ip link set $other up;"
        " sed -i 's,^disk=.*,vif=[\"bridge=xb\"],' /tmp/xg.cfg; xl create -p -q /tmp/xg.cfg",
        "xl destroy xg; ip link del xb; ip link set $other down",
    ),
)

# Those of a plain run; the first of all is the host at rest.
OFTEN = frozenset({
    "nothing", "disk-under-a-loop-device", "disk-with-an-external-journal", "disk-under-a-mounted-logical-volume",
    "disk-under-an-active-logical-volume", "disk-exported-by-lio", "disk-exported-by-tgtd", "disk-of-a-guest-of-xl",
    "iscsi-disk-mounted", "nfs-mounted", "default-route-on-an-open-vswitch-bridge", "second-next-hop-of-a-route",
    "bridge-with-a-guest-of-xl",
})  # fmt: skip
