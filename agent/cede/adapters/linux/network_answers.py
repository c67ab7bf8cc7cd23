"""Parse what `ip -json` and `tc -json` print: interfaces, routes with all their next hops, ways, what tc hands on.

Sources: iproute2's ip/ipaddress.c, ip/iproute.c, ip/ipnexthop.c, ip/iplink_*.c and tc/m_mirred.c (6.1 and 6.15).
Everything here raises ValueError, TypeError, KeyError or AttributeError for what iproute2 doesn't print.
"""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from cede.model.network import Interface, Network, Redirect, Route
from cede.model.virtual_functions import FunctionSettings, LinkState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ENDS = ("local", "remote", "local6", "remote6", "group", "group6")
_OF_INGRESS, _NO_HANDLE = frozenset({"ingress", "clsact"}), "0:"
_Hops = dict[int, list[dict[str, Any]]]


def arrays(said: str) -> list[list[dict[str, Any]]]:
    """Return the arrays that `ip -json -batch` prints, one for each of its commands."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while rest := said[at:].lstrip():
        at = len(said) - len(rest)
        value, at = decoder.raw_decode(said, at)
        if not isinstance(value, list):
            raise TypeError("an array was expected")
        found.append([one for one in value if one])  # some commands end with an empty object
    return found


def network_of(
    shown: Sequence[dict[str, Any]],
    routes: Sequence[dict[str, Any]],
    hops: Sequence[dict[str, Any]],
    unrestored: Mapping[str, tuple[str, ...]],
) -> Network:
    """Build a network of the answers to `address show`, `route show table all` and `nexthop show`.

    `unrestored` is by interface what isn't brought back when its device returns.
    """
    return Network(
        interfaces=tuple(_interface(one, unrestored) for one in shown),
        routes=routes_of(routes, hops),
    )


def routes_of(
    routes: Sequence[dict[str, Any]], hops: Sequence[dict[str, Any]]
) -> tuple[Route, ...]:
    """Return each next hop of the answer to `route show table all`; `hops` is that to `nexthop show`."""
    objects = _next_hops(hops)
    return tuple(route for one in routes for route in _routes(one, objects))


def way_of(answer: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the address and the interface of an answer to `route get`; nothing for dom0's own address."""
    for way in answer:
        if way.get("type", "unicast") == "unicast" and "dev" in way:
            yield str(ip_address(way["dst"])), str(way["dev"])


def filtered(qdiscs: Sequence[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return where filters can be, by the answer to `tc qdisc show`: interface and place, as `tc filter` names it."""
    found: dict[tuple[str, str], None] = {}
    for qdisc in qdiscs:
        name, kind = str(qdisc["dev"]), str(qdisc["kind"])
        if kind in _OF_INGRESS:
            found[name, "ingress"] = None
        if kind == "clsact":
            found[name, "egress"] = None
        elif kind not in _OF_INGRESS and str(qdisc["handle"]) != _NO_HANDLE:
            found[name, f"parent {qdisc['handle']}"] = None
    return tuple(found)


def redirects(source: str, filters: object) -> Iterator[Redirect]:
    """Yield what the filters of an interface hand on, from an answer to `tc filter show` (iproute2's tc/m_mirred.c)."""
    if isinstance(filters, list):
        for one in filters:
            yield from redirects(source, one)
    elif isinstance(filters, dict):
        if filters.get("kind") == "mirred" and "to_dev" in filters:
            copies = filters.get("mirred_action") == "mirror"
            yield Redirect(source=source, target=str(filters["to_dev"]), copies=copies)
        for value in filters.values():
            yield from redirects(source, value)


def _interface(shown: dict[str, Any], unrestored: Mapping[str, tuple[str, ...]]) -> Interface:
    about = shown.get("linkinfo", {})
    data = about.get("info_data", {})
    own = [ip_interface(f"{a['local']}/{a['prefixlen']}") for a in _addresses(shown)]
    return Interface(
        name=str(shown["ifname"]),
        kind=str(about.get("info_kind", "")),
        master=str(shown.get("master", "")),
        link=str(shown.get("link") or data.get("link") or ""),
        addresses=tuple(str(address.ip) for address in own),
        subnets=tuple(str(address.network) for address in own),
        ends=tuple(str(data[end]) for end in _ENDS if _is_end(data.get(end))),
        unrestored=unrestored.get(str(shown["ifname"]), ()),
        up="UP" in shown.get("flags", ()),
        xdp="xdp" in shown,
        functions=functions_of(shown),
    )


def functions_of(shown: dict[str, Any]) -> tuple[FunctionSettings, ...]:
    """Return how the virtual functions of an interface are set up (ip/ipaddress.c, print_vfinfo); none for gaps."""
    listed = sorted(shown.get("vfinfo_list", ()), key=lambda one: int(one["vf"]))
    if [int(one["vf"]) for one in listed] != list(range(len(listed))):
        return ()
    return tuple(_settings(one) for one in listed)


def _settings(shown: dict[str, Any]) -> FunctionSettings:
    """Return the settings of one virtual function; what its driver can't tell, `ip` leaves out, but for the VLAN."""
    vlans = [vlan for vlan in shown.get("vlan_list", (shown,)) if "vlan" in vlan]
    spoof, trust, link_state = (shown.get(key) for key in ("spoofchk", "trust", "link_state"))
    return FunctionSettings(
        mac=str(shown["address"]) if "address" in shown else None,
        vlan=int(vlans[0]["vlan"]) if vlans else 0,
        spoof_check=None if spoof is None else bool(spoof),
        trust=None if trust is None else bool(trust),
        rate=int(shown["rate"]["max_tx"]) if "rate" in shown else int(shown.get("tx_rate", 0)),
        link_state=None if link_state is None else LinkState(link_state),
    )


def _addresses(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [address for address in shown.get("addr_info", ()) if "local" in address]


def _is_end(text: object) -> bool:
    """Whether it is an address, and not `any`."""
    if text is None:
        return False  # as of nearly all interfaces
    try:
        return not ip_address(str(text)).is_unspecified
    except ValueError:
        return False


def _next_hops(shown: Sequence[dict[str, Any]]) -> _Hops:
    """Return what each next hop object consists of; groups of several ones."""
    single = {int(one["id"]): one for one in shown}
    return {
        number: [single[member["id"]] for member in one["group"] if member["id"] in single]
        if "group" in one
        else [one]
        for number, one in single.items()
    }


def _routes(shown: dict[str, Any], objects: _Hops) -> Iterator[Route]:
    if shown.get("type", "unicast") != "unicast":
        return
    hops = [*shown.get("nexthops", ()), *objects.get(shown.get("nhid", 0), ())]
    to = _destination(shown, hops)
    found: dict[str, bool] = {}
    for hop in [shown, *hops]:
        if "dev" in hop:
            via = "gateway" in hop or "via" in hop
            found[str(hop["dev"])] = found.get(str(hop["dev"]), False) or via
    for interface, via in found.items():
        yield Route(
            destination=to, interface=interface, via=via, protocol=str(shown.get("protocol", ""))
        )


def _destination(shown: dict[str, Any], hops: Sequence[dict[str, Any]]) -> str:
    """Return the network; iproute2 writes `default` for both families."""
    if shown["dst"] != "default":
        try:
            return str(ip_network(shown["dst"], strict=False))
        except ValueError:  # MPLS has labels
            return str(shown["dst"])
    texts = [str(one.get("gateway", "")) for one in (shown, *hops)]
    six = "pref" in shown or shown.get("from", "").count(":") or any(":" in text for text in texts)
    return "::/0" if six else "0.0.0.0/0"
