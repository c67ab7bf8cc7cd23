"""What dom0's interfaces have that goes with them and isn't made again when their device returns.

Sources: iproute2's ip/ipaddress.c (print_linkinfo) and ip/iproute.c; the kernel's net/core/dev.c (an interface that
goes takes its routes, and what lies on it, along), net/8021q/vlan.c. Not all is in these answers: what ethtool sets,
traffic filters and values below /proc/sys are not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cede.adapters.linux.network_answers import routes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPEN_VSWITCH = "ovs-system"  # its kernel part, which is what `ip` names as the master
_MADE_AGAIN = frozenset({"kernel", "ra", "redirect", "dhcp"})  # by the kernel, or by a DHCP client
_USUAL_QUEUES = frozenset(
    {"", "noop", "noqueue", "mq", "pfifo_fast", "fq_codel", "fq", "cake", "pfifo"}
)
_UDEVS_NAME = re.compile(r"(en|ib|sl|wl|ww)[bcdopsvaxu]\w*\Z")  # systemd.net-naming-scheme(7)
_GIVES_ITS_MAC = frozenset({"bond", "team"})
_MOST = 20


def unrestored_settings(
    shown: Sequence[dict[str, Any]],
    routes: Sequence[dict[str, Any]],
    hops: Sequence[dict[str, Any]],
) -> dict[str, tuple[str, ...]]:
    """Return by interface each thing that its return doesn't bring back, as a phrase; at most 20 of each interface.

    The arguments are the answers to `address show`, `route show table all` and `nexthop show`.
    """
    kinds = {str(one["ifname"]): _kind(one) for one in shown}
    found: dict[str, list[str]] = {}
    for one in shown:
        own = (*_as_port(one, kinds), *_own(one), *_addresses(one))
        found.setdefault(str(one["ifname"]), []).extend(own)
        below = str(one.get("link") or "")
        if below in kinds and _kind(one) != "veth":
            found.setdefault(below, []).append(
                f"the {_kind(one) or 'interface'} {one['ifname']} on it"
            )
    for route in routes_of(routes, hops):
        if route.protocol not in _MADE_AGAIN:
            found.setdefault(route.interface, []).append(f"the route to {route.destination}")
    return {name: _bounded(tuple(dict.fromkeys(what))) for name, what in found.items() if what}


def _kind(shown: dict[str, Any]) -> str:
    return str(shown.get("linkinfo", {}).get("info_kind", ""))


def _as_port(shown: dict[str, Any], kinds: dict[str, str]) -> Iterator[str]:
    """Yield what it has as a port of another interface, and its MAC if nothing gives that to it again."""
    master = str(shown.get("master") or "")
    if master == OPEN_VSWITCH:
        yield "its port of Open vSwitch, unless ovs-vswitchd takes it again"
    elif master:
        yield f"its settings as a port of {master}"
    permanent = shown.get("permaddr")
    if permanent and permanent != shown.get("address") and kinds.get(master) not in _GIVES_ITS_MAC:
        yield f"the MAC {shown.get('address')}, which is not the card's own"


def _own(shown: dict[str, Any]) -> Iterator[str]:
    for name in shown.get("altnames", ()):
        if not _UDEVS_NAME.match(str(name)):
            yield f"the other name {name}"
    functions = len(shown.get("vfinfo_list", ()))
    if functions:
        yield f"its {functions} virtual functions and their settings"
    if shown.get("ifalias"):
        yield "its description (alias)"
    if str(shown.get("group", "default")) not in {"default", "0"}:
        yield f"its group {shown['group']}"
    if str(shown.get("qdisc", "")) not in _USUAL_QUEUES:
        yield f"its queueing discipline {shown['qdisc']}"
    if "xdp" in shown:
        yield "its XDP program"


def _addresses(shown: dict[str, Any]) -> Iterator[str]:
    for address in shown.get("addr_info", ()):
        if address.get("family") != "inet" and "address" not in address:
            continue
        if address.get("dynamic"):
            yield f"the lease of {address['local']}, unless a DHCP client renews it"
        elif "address" in address:
            yield f"the peer of {address['local']}"
        elif address.get("scope") in {"link", "host"}:
            yield f"the address {address['local']} of scope {address['scope']}"


def _bounded(phrases: tuple[str, ...]) -> tuple[str, ...]:
    left = len(phrases) - _MOST
    return (*phrases[:_MOST], f"{left} settings more") if left > 0 else phrases
