"""dom0's interfaces: read as they are, and made again what they were, with no command more than that takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cede.adapters.linux.network_links import Links
from cede.errors import PermanentError
from cede.model.network import Interface, Redirect
from cede.model.pci import Link
from cede.util.process import CompletedProcess
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
        self.prints, self.asked = "", ""

    def answers(self, *said: object) -> Links:
        """The adapter whose `ip -batch` prints these arrays."""
        self.prints = "\n".join(json.dumps(one) for one in said)
        return Links(self.run, self.run_apart)

    def run_apart(self, *argv: str, stdin: str, seconds: float, most: int) -> CompletedProcess:
        assert argv[0] == "ip"
        assert seconds < most
        self.asked = stdin
        return CompletedProcess(status=2, out=self.prints.encode(), err=b"RTNETLINK answers: no")

    def run(self, *argv: str, stdin: str = "") -> str:
        assert argv[0] == "ip"
        if argv[1:] == ("-json", "address", "show"):
            return self.says if isinstance(self.says, str) else json.dumps(self.says)
        if "-batch" in argv or "l2tp" in argv:
            self.asked = stdin
            return self.prints
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


def test_every_interface_is_reported_with_what_it_lies_on(ip: Ip) -> None:
    shown = [
        interface("lo", addr_info=[address("127.0.0.1", 8, scope="host"), address("::1", 128)]),
        interface("eth0.7", link="eth0", master="br0", linkinfo={"info_kind": "vlan"}, addr_info=[
            address("192.0.2.1", 24, label="eth0:1"), address("FD00:0::2", 64),
            address("192.0.2.7", 32, address="192.0.2.8"), {},
        ]),
        interface("vx", linkinfo={"info_kind": "vxlan", "info_data": {
            "id": 5, "remote": "192.0.2.9", "local": "192.0.2.1", "link": "eth0",
        }}),
        interface("gre", linkinfo={"info_kind": "gre", "info_data": {"remote": "any", "local": "::"}}),
        {"ifname": "tun0", "flags": [], "mtu": 1500},
    ]  # fmt: skip
    interfaces = ip.answers(shown, [], []).network().interfaces
    assert tuple(replace(interface, unrestored=()) for interface in interfaces) == (
        Interface(name="lo", addresses=("127.0.0.1", "::1"), subnets=("127.0.0.0/8", "::1/128")),
        Interface(
            name="eth0.7", kind="vlan", link="eth0", master="br0",
            addresses=("192.0.2.1", "fd00::2", "192.0.2.7"),
            subnets=("192.0.2.0/24", "fd00::/64", "192.0.2.7/32"),
        ),
        Interface(name="vx", kind="vxlan", link="eth0", ends=("192.0.2.1", "192.0.2.9")),
        Interface(name="gre", kind="gre"),
        Interface(name="tun0"),
    )  # fmt: skip


def test_every_next_hop_of_a_unicast_route_of_any_table_is_reported(
    ip: Ip,
) -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "dhcp", "flags": []},
        {"dst": "default", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth9", "table": "7"},
        {"dst": "default", "gateway": "fe80::1", "dev": "eth1", "pref": "medium"},
        {"dst": "10.0.0.0/8", "nexthops": [
            {"gateway": "192.0.2.1", "dev": "eth0", "weight": 1}, {"gateway": "192.0.3.1", "dev": "eth2"},
        ]},
        {"dst": "10.7.0.9", "nhid": 3, "protocol": "static"},
        {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
        {"type": "local", "dst": "192.0.2.1", "dev": "eth0", "table": "local"},
        {"type": "multicast", "dst": "ff00::/8", "dev": "eth0"},
        {"type": "unreachable", "dst": "10.9.0.0/16"},
        {"dst": "100", "dev": "eth8", "via": {"family": "inet", "host": "192.0.2.1"}},
    ]  # fmt: skip
    hops = [
        {"id": 1, "gateway": "192.0.4.1", "dev": "eth4"}, {"id": 2, "dev": "eth5"},
        {"id": 3, "group": [{"id": 1}, {"id": 2}, {"id": 9}]},
    ]  # fmt: skip
    found = ip.answers([interface("lo")], routes, hops).network().routes
    assert [(r.destination, r.interface, r.via, r.protocol) for r in found] == [
        ("0.0.0.0/0", "eth0", True, "dhcp"),
        ("0.0.0.0/0", "eth9", True, ""),
        ("::/0", "eth1", True, ""),
        ("10.0.0.0/8", "eth0", True, ""),
        ("10.0.0.0/8", "eth2", True, ""),
        ("10.7.0.9/32", "eth4", True, "static"),
        ("10.7.0.9/32", "eth5", False, "static"),
        ("192.0.2.0/24", "eth0", False, "kernel"),
        ("100", "eth8", True, ""),
    ]


def test_the_kernel_of_this_machine_tells_its_network() -> None:
    assert Links().network().interfaces[0].name == "lo"
    assert Links().ways(["127.0.0.1", "not an address"]) == {}
    assert all(len(ends) == 2 for ends in Links().ipsec_ends())


def test_the_way_to_each_peer_that_has_one_is_reported(ip: Ip) -> None:
    links = ip.answers(
        [{"dst": "192.0.2.9", "gateway": "192.0.2.1", "dev": "eth0", "prefsrc": "192.0.2.2"}],
        [{"dst": "FD00::7", "from": "::", "dev": "eth1"}],
        [{"type": "local", "dst": "192.0.2.2", "dev": "lo"}],
    )
    peers = ["192.0.2.9", "fd00::7", "192.0.2.2", "10.0.0.1"]
    assert links.ways(peers) == {"192.0.2.9": "eth0", "fd00::7": "eth1"}
    assert ip.asked.split("\n")[:2] == ["route get 192.0.2.9", "route get fd00::7"]
    assert links.ways([]) == {}
    assert len(ip.asked.splitlines()) == 4
    links.ways([f"10.0.{n // 256}.{n % 256}" for n in range(2000)])
    assert len(ip.asked.splitlines()) == 1000


def test_both_ends_of_each_ipsec_tunnel_are_reported_once(ip: Ip) -> None:
    links = ip.answers()
    ip.prints = (
        "src 192.0.2.1 dst 192.0.2.9\n\tproto esp spi 0x1\nsrc 192.0.2.9 dst 192.0.2.1\n" * 2
    )
    assert links.ipsec_ends() == (("192.0.2.1", "192.0.2.9"), ("192.0.2.9", "192.0.2.1"))


def test_both_ends_of_each_l2tp_tunnel_are_reported(ip: Ip) -> None:
    tunnel = {"tunnel_id": 7, "encap": "UDP", "local": "192.0.2.1", "peer": "192.0.2.9"}
    links = ip.answers()
    ip.prints = json.dumps([tunnel])
    assert links.l2tp_ends() == (("192.0.2.1", "192.0.2.9"),)
    ip.prints = "[]"
    assert links.l2tp_ends() == ()


def test_what_an_interface_runs_and_whether_it_is_up_is_reported(ip: Ip) -> None:
    shown = [
        interface("lo"),
        interface("eth0", flags=["UP"], xdp={"mode": 1, "prog": {"id": 7}}),
        interface("eth1", flags=["NO-CARRIER"]),
    ]
    found = ip.answers(shown, [], []).network().interfaces
    assert [(one.up, one.xdp) for one in found[1:]] == [(True, True), (False, False)]


class Tc:
    """`tc`: one answer to each look at the queueing disciplines, and one to each look at the filters."""

    def __init__(self, qdiscs: list[str], filters: list[str]) -> None:
        self.qdiscs, self.filters = list(qdiscs), list(filters)
        self.asked: list[str] = []

    def run(self, *argv: str, stdin: str = "") -> str:
        assert argv == ("tc", "-json", "qdisc", "show")
        assert not stdin
        return self.qdiscs.pop(0)

    def run_apart(self, *argv: str, stdin: str, seconds: float, most: int) -> CompletedProcess:
        assert argv[0] == "tc"
        assert seconds < most
        self.asked = stdin.splitlines()
        return CompletedProcess(status=0, out=self.filters.pop(0).encode(), err=b"")

    def redirects(self) -> tuple[Redirect, ...]:
        return Links(self.run, self.run_apart).redirects()


QDISCS = json.dumps([
    {"kind": "noqueue", "handle": "0:", "dev": "lo", "root": True, "refcnt": 2, "options": {}},
    {"kind": "clsact", "handle": "ffff:", "dev": "eth0", "parent": "ffff:fff1", "options": {}},
    {"kind": "ingress", "handle": "ffff:", "dev": "vif7.0", "parent": "ffff:fff1", "options": {}},
    {"kind": "htb", "handle": "1:", "dev": "eth1", "root": True, "refcnt": 2, "options": {}},
])  # fmt: skip


def _mirred(target: str, action: str = "redirect") -> str:
    """As iproute2 prints a filter: once without its options, once with."""
    filter_ = {"protocol": "all", "pref": 49152, "kind": "matchall", "chain": 0}
    act = {
        "order": 1,
        "kind": "mirred",
        "mirred_action": action,
        "direction": "egress",
        "to_dev": target,
    }
    return json.dumps(
        [filter_, {**filter_, "options": {"handle": 1, "actions": [{"kind": "gact"}, act]}}]
    )


def test_what_tc_hands_on_is_reported_with_where_it_comes_from_and_goes_to() -> None:
    tc = Tc([QDISCS], [_mirred("vif7.0") + "\n[]\n" + _mirred("eth0", "mirror") + _mirred("eth2")])
    assert tc.redirects() == (
        Redirect(source="eth0", target="vif7.0"),
        Redirect(source="vif7.0", target="eth0", copies=True),
        Redirect(source="eth1", target="eth2"),
    )
    places = ("eth0 ingress", "eth0 egress", "vif7.0 ingress", "eth1 parent 1:")
    assert tc.asked == [f"filter show dev {place}" for place in places]
    assert Tc(["[]"], []).redirects() == ()


def test_what_of_tc_changes_while_it_is_asked_for_is_asked_for_again() -> None:
    whole = "[][]" + _mirred("eth0") + "[]"
    assert Tc([QDISCS] * 2, ["[][][]", whole]).redirects() == (
        Redirect(source="vif7.0", target="eth0"),
    )
    with raises(PermanentError, "unreadable-answer", "tc -json"):
        Tc([QDISCS] * 2, ["[][][]"] * 2).redirects()


@pytest.mark.parametrize(
    ("qdiscs", "filters"), [("[", ""), ('[{"dev": "eth0"}]', ""), (QDISCS, "[[")]
)
def test_what_is_no_answer_of_tc_is_an_error_and_never_none(qdiscs: str, filters: str) -> None:
    with raises(PermanentError, "unreadable-answer", "tc -json"):
        Tc([qdiscs] * 2, [filters] * 2).redirects()


@pytest.mark.parametrize(
    "said",
    ["", "[", "null", "[] []", "[7] [] []", "[] [] []", '[{"ifname": "eth0"}] [] []',
     '[{"addr_info": [{"local": "192.0.2.1"}]}] [] []',
     '[{"ifname": "lo", "addr_info": [{"local": "here", "prefixlen": 8}]}] [] []',
     '[{"ifname": "lo"}] [{"dev": "eth0"}] []', '[{"ifname": "lo"}] [] [{"id": "x"}]',
     '[{"ifname": "lo"}] [] [] []', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_network_is_an_error_and_never_none(ip: Ip, said: str) -> None:
    links = ip.answers()
    ip.prints = said
    with raises(PermanentError, "unreadable-answer", "ip -json"):
        links.network()


@pytest.mark.parametrize(
    "said", ["[", "null", "[7]", '[{"dst": "x", "dev": "eth0"}]', '[{"dev": "e"}]']
)
def test_what_is_no_way_is_an_error(ip: Ip, said: str) -> None:
    links = ip.answers()
    ip.prints = said
    with raises(PermanentError, "unreadable-answer", "route get"):
        links.ways(["192.0.2.1"])


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


# -- what isn't restored

LO = interface("lo", flags=["LOOPBACK", "UP"], address="00:00:00:00:00:00")
OTHERS_MAC = "02:00:00:00:00:07"


def unrestored(ip: Ip, *shown: object, routes: object = (), hops: object = ()) -> dict[str, Any]:
    network = ip.answers([LO, *shown], list(routes), list(hops)).network()  # type: ignore[call-overload]
    return {one.name: one.unrestored for one in network.interfaces if one.unrestored}


@pytest.mark.parametrize(
    "reported",
    [
        {},
        {"flags": ["UP", "LOWER_UP"], "qdisc": "mq", "group": "default", "promiscuity": 0},
        {"altnames": ["enp1s0", "enx525400000001", "ens3f1np1"], "linkinfo": {}},
        {"permaddr": MAC, "vfinfo_list": []},
        {"addr_info": [address("192.0.2.1", 24), address("fe80::1", 64, scope="link")]},
        {"addr_info": [address("2001:db8::7", 64, dynamic=True, protocol="kernel_ra"), {}]},
    ],
)
def test_a_plain_interface_has_nothing_that_its_return_does_not_bring_back(
    ip: Ip, reported: dict[str, Any]
) -> None:
    assert unrestored(ip, interface("eth1", **reported)) == {}


@pytest.mark.parametrize(
    ("reported", "mentioned"),
    [
        ({"master": "br0"}, "br0"),
        ({"master": "ovs-system"}, "Open vSwitch"),
        ({"address": OTHERS_MAC, "permaddr": MAC}, OTHERS_MAC),
        ({"altnames": ["enp1s0", "uplink"]}, "uplink"),
        ({"vfinfo_list": [{"vf": 0}, {"vf": 1}]}, "2 virtual functions"),
        ({"ifalias": "to the attic"}, "alias"),
        ({"group": "7"}, "group 7"),
        ({"qdisc": "htb"}, "htb"),
        ({"xdp": {"mode": 1}}, "XDP"),
        ({"addr_info": [address("10.0.0.1", 32, address="10.0.0.2")]}, "peer of 10.0.0.1"),
        ({"addr_info": [address("10.0.0.1", 24, scope="link")]}, "10.0.0.1"),
        ({"addr_info": [address("10.0.0.1", 24, dynamic=True)]}, "lease of 10.0.0.1"),
    ],
)
def test_what_an_interface_has_itself_and_its_return_does_not_bring_back_is_reported(
    ip: Ip, reported: dict[str, Any], mentioned: str
) -> None:
    found = unrestored(ip, interface("br0"), interface("eth1", **reported))
    ((name, (phrase,)),) = found.items()
    assert (name, mentioned in phrase) == ("eth1", True), phrase


def test_a_bond_gives_its_ports_their_mac_again(ip: Ip) -> None:
    bond = interface("bond0", linkinfo={"info_kind": "bond"})
    port = interface("eth1", master="bond0", address=OTHERS_MAC, permaddr=MAC)
    assert unrestored(ip, bond, port) == {"eth1": ("its settings as a port of bond0",)}


def test_what_lies_on_an_interface_goes_with_it_and_a_veths_other_end_does_not(ip: Ip) -> None:
    vlan = interface("eth1.5", link="eth1", linkinfo={"info_kind": "vlan"})
    upper = interface("eth1.5.6", link="eth1.5", linkinfo={"info_kind": "macvlan"})
    ends = [
        interface(one, link=other, linkinfo={"info_kind": "veth"})
        for one, other in (("v0", "v1"), ("v1", "v0"))
    ]
    found = unrestored(ip, interface("eth1"), vlan, upper, *ends)
    assert set(found) == {"eth1", "eth1.5"}
    assert "eth1.5" in found["eth1"][0]


def test_routes_of_every_table_are_reported_but_for_those_that_are_made_again(ip: Ip) -> None:
    routes = [
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.9", "dev": "eth1", "protocol": "static"},
        {"dst": "10.9.0.0/16", "dev": "eth1", "table": "7", "protocol": "boot"},
        {"dst": "192.0.2.0/24", "dev": "eth1", "protocol": "kernel"},
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth1", "protocol": "dhcp"},
        {"dst": "default", "gateway": "fe80::1", "dev": "eth1", "protocol": "ra", "pref": "medium"},
        {"dst": "10.1.0.0/16", "nhid": 5, "protocol": "static"},
    ]
    found = unrestored(ip, interface("eth1"), routes=routes, hops=[{"id": 5, "dev": "eth1"}])
    assert [phrase.split()[-1] for phrase in found["eth1"]] == [
        "10.0.0.0/8",
        "10.9.0.0/16",
        "10.1.0.0/16",
    ]


def test_the_list_is_short_however_much_there_is(ip: Ip) -> None:
    many = [{"dst": f"10.{n}.0.0/16", "dev": "eth1", "protocol": "static"} for n in range(200)]
    found = unrestored(ip, interface("eth1"), routes=many)["eth1"]
    assert (len(found), "180" in found[-1]) == (21, True)


@pytest.mark.parametrize(
    "said", ["", "[", "null", "[7] [] []", "[] [] []", '[{"ifname": "lo", "linkinfo": 7}] [] []']
)
def test_what_is_no_answer_never_means_that_nothing_is_lost(ip: Ip, said: str) -> None:
    links = ip.answers()
    ip.prints = said
    with raises(PermanentError, "unreadable-answer", "ip -json"):
        links.network()


# -- restoring


def test_a_port_of_open_vswitch_is_left_to_its_own_daemon(ip: Ip) -> None:
    was = replace(WAS, master="ovs-system")
    assert restored(ip, was, replace(was, master=None, mtu=1500)) == ["link set dev eth1 mtu 9000"]


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
