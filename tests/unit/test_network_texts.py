"""What `ip` printed for people, as a sosreport has it, by `--root`: told where the text is whole, else not told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.recorded.network_texts import BRIEF, DETAILED, ROUTES, ROUTES6, read_network
from cede.model.network import Interface, Network, Route
from sim.sys_tree import SysTree, write
from unit import test_replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.test_cli import Shown

cede, root = test_replay.cede, test_replay.root
REST = "promiscuity 0  allmulti 0 minmtu 68 maxmtu 9000"
ADDRESSES = f"""\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 {REST} numtxqueues 1 numrxqueues 1
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc mq master xenbr0 state UP group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff {REST}
    bridge_slave state forwarding priority 32 cost 4 hairpin off guard off numtxqueues 8 parentbus pci
    altname enp1s0
3: xenbr0: <BROADCAST,MULTICAST> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff {REST}
    bridge forward_delay 200 hello_time 200 max_age 2000 stp_state 0 priority 32768
    inet 192.0.2.9/24 brd 192.0.2.255 scope global dynamic xenbr0
       valid_lft 3000sec preferred_lft 3000sec
    inet6 2001:db8::9/64 scope global
       valid_lft forever preferred_lft forever
4: xenbr0.7@xenbr0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff {REST}
    vlan protocol 802.1Q id 7 <REORDER_HDR> numtxqueues 1
5: vif7.0@if2: <BROADCAST,MULTICAST,UP> mtu 1500 xdp qdisc mq state UP group default qlen 32
    link/ether fe:ff:ff:ff:ff:ff brd ff:ff:ff:ff:ff:ff link-netnsid 0 {REST}
6: vx0: <BROADCAST,MULTICAST,UP> mtu 1450 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ether 02:00:00:00:00:07 brd ff:ff:ff:ff:ff:ff {REST}
    vxlan id 5 remote 192.0.2.1 local 192.0.2.9 dev xenbr0 srcport 0 0 dstport 4789 ttl auto ageing 300
7: tun0: <POINTOPOINT,NOARP,UP> mtu 1500 qdisc fq_codel state UNKNOWN group default qlen 500
    link/none  {REST}
    tun type tun pi off vnet_hdr off persist on
    inet 10.8.0.1 peer 10.8.0.2/32 scope global tun0
"""
TABLES = """\
default via 192.0.2.1 dev xenbr0 proto dhcp metric 100
default proto static metric 200
\tnexthop via 192.0.2.1 dev xenbr0 weight 1
\tnexthop via 198.51.100.1 dev eth2 weight 1
10.9.0.0/16 via inet6 fe80::1 dev xenbr0.7
192.0.2.0/24 dev xenbr0 proto kernel scope link src 192.0.2.9
blackhole 10.66.0.0/16
local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1
fe80::/64 dev xenbr0 proto kernel metric 256 pref medium
default via fe80::1 dev xenbr0 proto ra metric 1024 expires 1700sec pref medium
"""
SIX = "default via fe80::1 dev xenbr0 proto ra metric 1024 pref medium\n"


def network(root: Path, texts: dict[str, str]) -> Network | None:
    for name, said in texts.items():
        write(root / name, said)
    return read_network(root)


def test_interfaces_and_routes_are_told_as_the_texts_have_them(tmp_path: Path) -> None:
    found = network(tmp_path, {DETAILED: ADDRESSES, BRIEF: "garbage", ROUTES: TABLES, ROUTES6: SIX})
    assert found == Network(
        interfaces=(
            Interface(name="lo", addresses=("127.0.0.1",), subnets=("127.0.0.0/8",), up=True),
            Interface(name="eth0", master="xenbr0", up=True),
            Interface(
                name="xenbr0", kind="bridge", addresses=("192.0.2.9", "2001:db8::9"),
                subnets=("192.0.2.0/24", "2001:db8::/64"),
            ),
            Interface(name="xenbr0.7", kind="vlan", link="xenbr0", up=True),
            Interface(name="vif7.0", up=True, xdp=True),
            Interface(name="vx0", kind="vxlan", link="xenbr0", ends=("192.0.2.9", "192.0.2.1"), up=True),
            Interface(name="tun0", kind="tun", addresses=("10.8.0.1",), subnets=("10.8.0.1/32",), up=True),
        ),
        routes=(
            Route(destination="0.0.0.0/0", interface="xenbr0", via=True, protocol="dhcp"),
            Route(destination="0.0.0.0/0", interface="xenbr0", via=True, protocol="static"),
            Route(destination="0.0.0.0/0", interface="eth2", via=True, protocol="static"),
            Route(destination="10.9.0.0/16", interface="xenbr0.7", via=True),
            Route(destination="192.0.2.0/24", interface="xenbr0", protocol="kernel"),
            Route(destination="fe80::/64", interface="xenbr0", protocol="kernel"),
            Route(destination="::/0", interface="xenbr0", via=True, protocol="ra"),
        ),
    )  # fmt: skip


def test_the_brief_text_tells_addresses_alone(tmp_path: Path) -> None:
    brief = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n"
        "2: eth0    inet 192.0.2.9/24 scope global eth0\\       valid_lft forever\n"
        "2: eth0    inet6 2001:db8::9/64 scope global \\       valid_lft forever"
    )
    found = network(tmp_path, {BRIEF: brief})
    assert found is not None
    assert [(one.name, one.addresses) for one in found.interfaces] == [
        ("lo", ("127.0.0.1",)),
        ("eth0", ("192.0.2.9", "2001:db8::9")),
    ]


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {DETAILED: 'Object "address" is unknown, try "ip help".'},
        {DETAILED: ADDRESSES, ROUTES: "sh: 1: ip: not found"},
        {ROUTES: "default via 192.0.2.1"},
        {ROUTES: "default via 192.0.2."},
        {ROUTES: "default via 192.0.2.1 dev"},
        {ROUTES: "10.0.0.0/8 proto static"},
        {ROUTES: "nexthop via 192.0.2.1 dev eth0"},
        {ROUTES: "192.0.2 dev eth0"},
        {ROUTES: "default\n\tnexthop via 192.0.2.1 weight 1"},
        {DETAILED: "2: eth0: <UP> mtu 1500 qdisc mq\n    inet 192.0.2.9/x scope global"},
        {DETAILED: "2: eth0: <UP> mtu 1500 qdisc mq\n    inet 192.0.2"},
        {DETAILED: "2: eth0: <UP> mtu 1500 qdisc mq master"},
        {DETAILED: "2: eth0: <UP> mtu 1500 qdisc mq\n    4:5 what is this"},
        {BRIEF: "2: eth0    inet 192.0.2.300/24 scope global"},
    ],
)
def test_a_text_that_is_not_whole_tells_nothing(tmp_path: Path, texts: dict[str, str]) -> None:
    assert network(tmp_path, texts) is None


lines = st.text(alphabet="2: eth0@<UP>mtu1500qdiscinet/.viadevdefaultnexthop \t\n\\", max_size=120)


@given(lines, lines)
def test_no_text_breaks_the_reading(
    tmp_path_factory: pytest.TempPathFactory, shown: str, routes: str
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    network(folder, {DETAILED: shown, ROUTES: routes})
    network(folder, {DETAILED: f"2: eth0: <UP> mtu 1500 {shown}", ROUTES: f"default {routes}"})


def _guards(cede: Callable[..., Shown], root: Path) -> list[str]:
    rows = test_replay.by_address(cede("devices", "--json", "--root", str(root)))
    return [use["guard"] for use in rows[test_replay.NIC]["uses"]]


def test_a_route_in_a_sosreport_keeps_the_card_by_its_own_guard(
    cede: Callable[..., Shown], root: Path
) -> None:
    assert _guards(cede, root) == ["untold"]
    tree = SysTree.__new__(SysTree)
    tree.sys = root / "sys"
    tree.interface("xenbr0", lowers=["eth0"])
    write(root / DETAILED, ADDRESSES)
    write(root / ROUTES, TABLES)
    assert "default-route" in _guards(cede, root)
    write(root / ROUTES, "default via 192.0.2.1")
    assert _guards(cede, root) == ["untold"]
