"""dom0's interfaces: read as they are, and made again what they were, with no command more than that takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cede.adapters.linux.network_links import Links
from cede.errors import PermanentError
from cede.model.pci import Link
from unit.raises import raises

MAC = "52:54:00:00:00:01"
WAS = Link(
    name="eth1", mac=MAC, up=True, carrier=True, mtu=9000, master="br0",
    addresses=("192.0.2.1/24", "fd00::1/64"),
)  # fmt: skip


def interface(name: str, **reported: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON is any
    """One interface as iproute2 6.1 prints it."""
    return {
        "ifindex": 3, "ifname": name, "flags": ["BROADCAST", "MULTICAST"], "mtu": 1500,
        "qdisc": "noop", "operstate": "DOWN", "link_type": "ether", "address": MAC,
        "broadcast": "ff:ff:ff:ff:ff:ff", "addr_info": [], **reported,
    }  # fmt: skip


def address(local: str, length: int, **reported: object) -> dict[str, object]:
    return {
        "family": "inet6" if ":" in local else "inet", "local": local, "prefixlen": length,
        "scope": "global", "valid_life_time": 4294967295, **reported,
    }  # fmt: skip


def shown(link: Link) -> dict[str, Any]:
    """The interface as `ip` would show it if it were `link`."""
    flags = [flag for flag, so in (("UP", link.up), ("LOWER_UP", link.carrier)) if so]
    parts = (found.split("/") for found in link.addresses)
    addresses = [address(local, int(length)) for local, length in parts]
    master = {} if link.master is None else {"master": link.master}
    return interface(link.name, flags=flags, mtu=link.mtu, addr_info=addresses, **master)


class Ip:
    """`ip`, with the commands that it was given; `refuses` is one that it fails with."""

    def __init__(self) -> None:
        self.says: object = []
        self.commands: list[str] = []
        self.refuses = "nothing"

    def run(self, *argv: str) -> str:
        assert argv[0] == "ip"
        if argv[1:] == ("-json", "address", "show"):
            return self.says if isinstance(self.says, str) else json.dumps(self.says)
        self.commands.append(" ".join(argv[1:]))
        if self.refuses in self.commands[-1]:
            raise PermanentError("RTNETLINK answers: no", name="command-failed")
        return ""


@pytest.fixture
def ip() -> Ip:
    return Ip()


def restored(ip: Ip, was: Link, now: Link) -> list[str]:
    """The commands that make `now` again what it `was`."""
    ip.says = [interface("lo"), shown(now)]
    Links(ip.run).restore(was, now)
    return ip.commands


# -- reading


def test_an_interface_is_read_with_all_that_is_to_be_restored(ip: Ip) -> None:
    ip.says = [
        interface("lo"),
        interface(
            "eth1", flags=["BROADCAST", "UP", "LOWER_UP"], mtu=9000, master="br0",
            addr_info=[address("192.0.2.1", 24), address("fd00::1", 64)],
        ),
        interface("eth2"),
    ]  # fmt: skip
    assert Links(ip.run).read(["eth2", "eth1", "gone"]) == (
        WAS,
        Link(name="eth2", mac=MAC, mtu=1500),
    )


def test_without_a_name_nothing_is_asked(ip: Ip) -> None:
    ip.says = "no JSON"
    assert Links(ip.run).read(()) == ()


@pytest.mark.parametrize(
    "made",
    [
        address("fe80::1", 64, scope="link"),
        address("fe80::1", 64, scope="link", protocol="kernel_ll"),
        address("fd00::5054:ff:fe00:1", 64, protocol="kernel_ra", dynamic=True),
        address("fd00::5054:ff:fe00:1", 64, protocol="kernel_ra"),
        address("192.0.2.7", 24, dynamic=True),
        address("127.0.0.1", 8, scope="host"),
        address("127.0.0.1", 8, protocol="kernel_lo"),
        {},
        {"family": "inet", "address": "192.0.2.9"},
    ],
)
def test_what_the_kernel_or_a_dhcp_client_made_is_not_theirs_to_restore(
    ip: Ip, made: dict[str, object]
) -> None:
    ip.says = [interface("eth1", addr_info=[made, address("192.0.2.1", 24, protocol="static")])]
    assert [link.addresses for link in Links(ip.run).read(["eth1"])] == [("192.0.2.1/24",)]


def test_a_port_of_a_bond_is_known_by_its_own_mac_which_it_comes_back_with(ip: Ip) -> None:
    ip.says = [interface("eth1", address="52:54:00:00:00:99", permaddr=MAC, master="bond0")]
    assert [link.mac for link in Links(ip.run).read(["eth1"])] == [MAC]


def test_an_interface_without_a_mac_or_addresses_is_read_too(ip: Ip) -> None:
    ip.says = [{"ifname": "tun0", "flags": [], "mtu": 1500}]
    assert Links(ip.run).read(["tun0"]) == (Link(name="tun0", mac="", mtu=1500),)


def test_every_address_of_dom0_is_told_with_its_interface(ip: Ip) -> None:
    ip.says = [
        interface("lo", addr_info=[address("127.0.0.1", 8, scope="host"), address("::1", 128)]),
        interface("eth0.7", addr_info=[
            address("192.0.2.1", 24, label="eth0:1"), address("fe80::1", 64, scope="link"),
            address("FD00:0::2", 64), address("192.0.2.7", 32, address="192.0.2.8"), {},
        ]),
        {"ifname": "tun0", "flags": [], "mtu": 1500},
    ]  # fmt: skip
    assert Links(ip.run).addresses() == {
        "127.0.0.1": "lo",
        "::1": "lo",
        "192.0.2.1": "eth0.7",
        "fe80::1": "eth0.7",
        "fd00::2": "eth0.7",
        "192.0.2.7": "eth0.7",
    }


def test_the_kernel_of_this_machine_tells_its_addresses() -> None:
    assert Links().addresses()["127.0.0.1"] == "lo"


@pytest.mark.parametrize(
    "said",
    ["", "[", "null", "[7]", '[{"addr_info": [{"local": "192.0.2.1"}]}]',
     '[{"ifname": "eth0", "addr_info": [{"local": "here"}]}]'],
)  # fmt: skip
def test_what_is_no_list_of_ip_addresses_is_an_error_and_never_none(ip: Ip, said: str) -> None:
    ip.says = said
    with raises(PermanentError, "unreadable-answer", "ip -json address"):
        Links(ip.run).addresses()


@pytest.mark.parametrize(
    "said",
    [
        "", "Usage: ip", "[", "null", "7", "[7]", "[null]", "[[]]",
        '[{"mtu": 1500}]',
        '[{"ifname": "eth1"}]',
        '[{"ifname": "eth1", "flags": []}]',
        '[{"ifname": "eth1", "flags": null, "mtu": 1500}]',
        '[{"ifname": "eth1", "flags": [], "mtu": "many"}]',
        '[{"ifname": "eth1", "flags": [], "mtu": null}]',
        '[{"ifname": "eth1", "flags": [], "mtu": 1500, "addr_info": 7}]',
        '[{"ifname": "eth1", "flags": [], "mtu": 1500, "addr_info": [7]}]',
        '[{"ifname": "eth1", "flags": [], "mtu": 1500, "addr_info": [{"local": "192.0.2.1"}]}]',
    ],
)  # fmt: skip
def test_what_is_no_list_of_interfaces_is_an_error_and_never_none(ip: Ip, said: str) -> None:
    ip.says = said
    with raises(PermanentError, "unreadable-answer", "ip -json address"):
        Links(ip.run).read(["eth1"])


# -- restoring


def test_nothing_is_done_to_an_interface_that_is_what_it_was(ip: Ip) -> None:
    assert restored(ip, WAS, WAS) == []
    assert restored(ip, WAS, replace(WAS, addresses=(*WAS.addresses, "192.0.2.5/24"))) == []


def test_all_is_restored_name_mtu_master_up_and_addresses_in_that_order(ip: Ip) -> None:
    assert restored(ip, WAS, Link(name="rename3", mac=MAC, mtu=1500)) == [
        "link set dev rename3 down",
        "link set dev rename3 name eth1",
        "link set dev eth1 mtu 9000",
        "link set dev eth1 master br0",
        "link set dev eth1 up",
        "address replace 192.0.2.1/24 dev eth1",
        "address replace fd00::1/64 dev eth1",
    ]


@pytest.mark.parametrize(
    ("now", "commands"),
    [
        (replace(WAS, mtu=1500), ["link set dev eth1 mtu 9000"]),
        (replace(WAS, up=False), ["link set dev eth1 up"]),
        (replace(WAS, addresses=("fd00::1/64",)), ["address replace 192.0.2.1/24 dev eth1"]),
        (replace(WAS, addresses=("192.0.2.1/25", "fd00::1/64")),
         ["address replace 192.0.2.1/24 dev eth1"]),
        (replace(WAS, up=False, master=None),
         ["link set dev eth1 master br0", "link set dev eth1 up"]),
        (replace(WAS, up=False, master="br1"),
         ["link set dev eth1 master br0", "link set dev eth1 up"]),
    ],
)  # fmt: skip
def test_only_what_differs_is_restored(ip: Ip, now: Link, commands: list[str]) -> None:
    assert restored(ip, WAS, now) == commands


@pytest.mark.parametrize(
    ("was", "now", "commands"),
    [
        (replace(WAS, mtu=None), replace(WAS, mtu=1500), []),
        (replace(WAS, master=None), replace(WAS, master="br1"), []),
        (replace(WAS, addresses=()), WAS, []),
        (replace(WAS, up=False), WAS, ["link set dev eth1 down"]),
        (replace(WAS, carrier=False), WAS, []),
    ],
)
def test_what_it_was_not_is_left_out_but_for_being_up(
    ip: Ip, was: Link, now: Link, commands: list[str]
) -> None:
    assert restored(ip, was, now) == commands


def test_a_renamed_interface_that_was_down_stays_down(ip: Ip) -> None:
    was = Link(name="eth1", mac=MAC, mtu=1500)
    assert restored(ip, was, replace(was, name="rename3", up=True)) == [
        "link set dev rename3 down",
        "link set dev rename3 name eth1",
    ]


def test_an_interface_that_is_up_is_taken_down_for_a_bond_which_takes_no_other(ip: Ip) -> None:
    was = replace(WAS, master="bond0", addresses=())
    assert restored(ip, was, replace(was, master=None)) == [
        "link set dev eth1 down",
        "link set dev eth1 master bond0",
        "link set dev eth1 up",
    ]


def test_addresses_that_going_down_has_taken_are_given_again(ip: Ip) -> None:
    assert restored(ip, replace(WAS, master=None), replace(WAS, master=None, name="rename3")) == [
        "link set dev rename3 down",
        "link set dev rename3 name eth1",
        "link set dev eth1 up",
        "address replace 192.0.2.1/24 dev eth1",
        "address replace fd00::1/64 dev eth1",
    ]


@pytest.mark.parametrize("refused", ["name", "mtu", "master", "up", "address"])
def test_the_first_refusal_is_raised_and_ends_the_rest(ip: Ip, refused: str) -> None:
    ip.refuses = f" {refused} " if refused not in {"up", "address"} else refused
    with raises(PermanentError, "command-failed"):
        restored(ip, WAS, Link(name="rename3", mac=MAC, mtu=1500))
    assert ip.refuses in ip.commands[-1]
