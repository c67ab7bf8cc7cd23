"""The demo's network card: from dom0 to a guest and back, with packets through it at both ends."""

from .telling import Telling, in_guest

NIC = "0000:01:00.0"
NIC_ID = "8086:10d3"
GUEST = "pv1"
GUEST_IP, PEER_IP, RETURNED_IP = "10.77.0.2", "10.77.0.1", "10.77.0.3"
PINGS = 3
POLICY = f"""\
version: 1
devices:
  nic0:
    match: {{address: "{NIC}"}}
    expect: {{vendor: "8086", device: "10d3"}}
assignments:
  - device: nic0
    domain: {GUEST}
    verify: {{guest: console}}
    on_drift: restore
"""
ROOT_DISK_POLICY = POLICY.replace(NIC, "0000:00:03.0").replace(
    'expect: {vendor: "8086", device: "10d3"}', "expect: {}"
)
AWAIT_CARRIER = (
    'n=0; while [ $n -lt 100 ] && [ "$(cat /sys/class/net/{name}/carrier)" != 1 ]; '
    "do n=$((n+1)); sleep 0.1; done"
)
_LOOK = "lspci -nnk"
_REFUSED_PLAN = ("cede", "plan", "-f", "/tmp/root-disk.yaml")


def walk(telling: Telling) -> None:
    """Give the card, take it back. Raises UntrueError where something isn't as it is told."""
    telling.write("/etc/cede/policy.yaml", POLICY)
    telling.write("/tmp/root-disk.yaml", ROOT_DISK_POLICY)
    _before(telling)
    _refuse_root_disk(telling)
    _give(telling)
    _packets_of_guest(telling)
    _again(telling)
    _take_back(telling)
    _packets_of_dom0(telling)


def _before(telling: Telling) -> None:
    telling.look_ahead(("cede", "devices"), in_guest(GUEST, _LOOK), _REFUSED_PLAN, ("cede", "plan"))
    telling.say(
        f"The host has these devices; {NIC} is the network card that guest {GUEST} shall get."
    )
    telling.host("cede", "devices")
    telling.say(f"The guest {GUEST} has no PCI device at all now. Its own lspci:")
    shown = telling.guest(GUEST, _LOOK)
    telling.must(NIC_ID not in shown, "the guest has the card before it was given")


def _refuse_root_disk(telling: Telling) -> None:
    telling.say(
        "A slip of the finger: a policy that gives away the host's own root disk. It is refused."
    )
    refused = telling.host(*_REFUSED_PLAN, status=3)
    telling.must("which holds /" in refused, "the reason for the refusal was not told")


def _give(telling: Telling) -> None:
    telling.say(
        "The policy, and the plan that comes of it. A plan touches nothing (exit status 4: work to do)."
    )
    telling.show(POLICY)
    telling.host("cede", "plan", status=4)
    telling.say("Now it is done: each step is read back, and in the end the guest itself is asked.")
    telling.host("cede", "apply", "--yes")
    telling.say("What dom0's sysfs and Xen's xenstore say, read without cede:")
    driver = telling.host("readlink", f"/sys/bus/pci/devices/{NIC}/driver")
    telling.must(driver.strip().endswith("/pciback"), "the card isn't on pciback")
    nodes = telling.host("xenstore-ls", "-f", "/local/domain/0/backend/pci")
    telling.must(f'dev-0 = "{NIC}"' in nodes, "xenstore doesn't name the card")
    telling.must('/0/state = "4"' in nodes, "the backend isn't connected")
    telling.say("And the guest's own lspci:")
    shown = telling.guest(GUEST, _LOOK)
    telling.must(
        NIC_ID in shown and "driver in use: e1000e" in shown, "the guest doesn't drive the card"
    )


def _packets_of_guest(telling: Telling) -> None:
    telling.say(
        "Packets through the card that the guest has now: dom0 pings it from `lab0`, on the same hub."
    )
    up = f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up; "
    telling.guest(GUEST, up + AWAIT_CARRIER.format(name="eth0"), typed=up)
    _ping(telling, "ping", "-c", str(PINGS), "-i", "0.3", "-W", "5", "-I", "lab0", GUEST_IP)


def _again(telling: Telling) -> None:
    telling.say("Applied once more, nothing is to do, and nothing is done.")
    said = telling.host("cede", "apply", "--yes")
    telling.must("Nothing was changed." in said, "a second apply changed something")


def _take_back(telling: Telling) -> None:
    telling.say("Now dom0 wants its card back, and working.")
    telling.host("cede", "release", "nic0")
    telling.look_ahead(in_guest(GUEST, _LOOK), ("cede", "status"))
    shown = telling.guest(GUEST, _LOOK)
    telling.must(NIC_ID not in shown, "the guest still sees the card")
    telling.host("cede", "status", status=4)


def _packets_of_dom0(telling: Telling) -> None:
    telling.say(
        "Packets from dom0 through the returned card (in a network namespace, so that they must leave by it):"
    )
    name = telling.host("ls", f"/sys/bus/pci/devices/{NIC}/net", show=False).strip()
    telling.must(bool(name), "the returned card has no network interface")
    for argv in (
        ["ip", "netns", "add", "returned"],
        ["ip", "link", "set", name, "netns", "returned"],
        ["ip", "-n", "returned", "addr", "add", f"{RETURNED_IP}/24", "dev", name],
        ["ip", "-n", "returned", "link", "set", name, "up"],
    ):
        telling.host(*argv, show=False)
    inside = ("ip", "netns", "exec", "returned")
    telling.host(*inside, "sh", "-c", AWAIT_CARRIER.format(name=name), show=False)
    _ping(telling, *inside, "ping", "-c", str(PINGS), "-i", "0.3", "-W", "5", PEER_IP)
    telling.host("ip", "netns", "del", "returned", show=False)


def _ping(telling: Telling, *argv: str) -> None:
    said = telling.host(*argv)
    telling.must(f" {PINGS} received" in said, "packets were lost")
