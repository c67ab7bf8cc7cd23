"""Parse what `ip -json` prints: interfaces, routes with all their next hops, and the way to an address.

Sources: iproute2's ip/ipaddress.c, ip/iproute.c, ip/ipnexthop.c and ip/iplink_*.c (6.1 and 6.15). Everything here
raises ValueError, TypeError, KeyError or AttributeError for what iproute2 doesn't print.
"""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from cede.model.network import Interface, Network, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ENDS = ("local", "remote", "local6", "remote6", "group", "group6")
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
    )


def _addresses(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [address for address in shown.get("addr_info", ()) if "local" in address]


def _is_end(text: object) -> bool:
    """Whether it is an address, and not `any`."""
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
