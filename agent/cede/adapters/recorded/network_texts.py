"""dom0's network by what `ip` printed for people, as a sosreport has it: interfaces and routes, or nothing at all.

What is parsed is turned into what `ip -json` would have printed, and read by the one parser for that. A text with a
line that iproute2 doesn't print, or that ends in the middle, tells nothing: half a table of routes is none. What the
texts don't tell, such as next hop objects, is not told.
Sources: iproute2, ip/ipaddress.c (print_linkinfo, print_addrinfo), ip/iproute.c (print_route), ip/iplink_*.c; sos,
sos/report/plugins/networking.py.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cede.adapters.linux.network_answers import network_of
from cede.adapters.recorded.answers import first_text
from cede.model.network import Network
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "sos_commands/networking"
DETAILED, BRIEF = f"{_FOLDER}/ip_-d_address", f"{_FOLDER}/ip_-o_addr"
ROUTES, ROUTES6 = (f"{_FOLDER}/ip_{six}route_show_table_all" for six in ("", "-6_"))
NETWORK_TEXTS = (DETAILED, BRIEF, ROUTES, ROUTES6)

_Shown = dict[str, Any]
_HEADER = re.compile(r"^\d+: ([^\s@/]{1,15})(?:@(\S{1,15}))?: <([A-Z_,-]*)> mtu \d+ (.*)$")
_BRIEF = re.compile(r"^\d+: +([^\s@/]{1,15})(?:@\S{1,15})? +(inet6?) (.*)$")
_KIND = re.compile(r"^[a-z][a-z0-9_]{1,15}$")
_OTHER_LINES = ("link/", "altname ", "alias ", "vf ", "valid_lft ", "prog/", "RX:", "TX:")
_TYPES = frozenset({
    "unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "nat", "anycast",
})  # fmt: skip
_NOWHERE, _ELSEWHERE = "NONE", re.compile(r"^if\d+$")


def read_network(root: Path) -> Network | None:
    """Return what the texts below `root` tell of interfaces and routes; None if there is none, or one can't be read."""
    shown_text = first_text(root, (DETAILED, BRIEF))
    routes_texts = [said for name in (ROUTES, ROUTES6) if (said := text(root / name))]
    if shown_text is None and not routes_texts:
        return None
    try:
        shown = _interfaces(shown_text or "")
        routes = [route for said in routes_texts for route in _routes(said)]
        found = network_of(shown, routes, [], {})
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return Network(interfaces=found.interfaces, routes=tuple(dict.fromkeys(found.routes)))


def _interfaces(said: str) -> list[_Shown]:
    found: dict[str, _Shown] = {}
    current: _Shown | None = None
    for line in said.splitlines():
        header, brief = _HEADER.match(line), _BRIEF.match(line)
        if header is not None:
            current = found[header[1]] = _header(header[1], header[2] or "", header[3], header[4])
        elif brief is not None:
            shown = found.setdefault(brief[1], {"ifname": brief[1], "addr_info": []})
            shown["addr_info"].append(_address(brief[3].split()))
        elif current is not None and line.startswith("    "):
            _detail(current, line.strip())
        elif line.strip():
            raise ValueError(line)
    return list(found.values())


def _header(name: str, link: str, flags: str, rest: str) -> _Shown:
    words = rest.split()
    shown: _Shown = {"ifname": name, "flags": flags.split(","), "addr_info": [], "linkinfo": {}}
    if link and link != _NOWHERE and not _ELSEWHERE.match(link):
        shown["link"] = link
    if "master" in words:
        shown["master"] = words[words.index("master") + 1]
    if any(word.startswith("xdp") for word in words):
        shown["xdp"] = {}
    return shown


def _detail(shown: _Shown, line: str) -> None:
    """One of the lines below an interface's first: an address, or what kind of interface it is."""
    words = line.split()
    if words[0] in {"inet", "inet6"}:
        shown["addr_info"].append(_address(words[1:]))
        return
    about = shown["linkinfo"]
    if line.startswith(_OTHER_LINES) or "info_kind" in about or words[0].endswith("_slave"):
        return
    if not _KIND.match(words[0]):
        raise ValueError(line)
    about["info_kind"] = words[0]
    # a tunnel's ends and what it lies on; others have other words, too, which mean nothing here
    pairs = dict(pairwise(words))
    about["info_data"] = {key: pairs[key] for key in ("local", "remote", "group") if key in pairs}
    if "dev" in pairs:
        about["info_data"]["link"] = pairs["dev"]


def _address(words: list[str]) -> _Shown:
    """`192.0.2.9/24 ...`, or of a link to one peer `192.0.2.9 peer 192.0.2.8/32 ...`."""
    local, _, length = words[0].partition("/")
    if words[1:2] == ["peer"]:
        length = words[2].partition("/")[2]
    return {"local": local, "prefixlen": int(length or ip_address(local).max_prefixlen)}


def _routes(said: str) -> list[_Shown]:
    found: list[_Shown] = []
    for line in said.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "nexthop":
            found[-1].setdefault("nexthops", []).append(_hop(words[1:]))
            continue
        kind = words.pop(0) if words[0] in _TYPES else "unicast"
        found.append({"type": kind, "dst": _destination(words[0]), **_hop(words[1:])})
    for route in found:
        hops = route.get("nexthops", [route])
        if route["type"] == "unicast" and not all("dev" in hop for hop in hops):
            raise ValueError("a route without an interface")
    return found


def _destination(word: str) -> str:
    if word != "default":
        ip_address(word.partition("/")[0])
    return word


def _hop(words: list[str]) -> _Shown:
    hop: _Shown = {}
    for name, key in (("dev", "dev"), ("proto", "protocol"), ("pref", "pref")):
        if name in words:
            hop[key] = words[words.index(name) + 1]
    if "via" in words:
        gateway = words[words.index("via") + 1 :]
        hop["gateway"] = gateway[1] if gateway[0] in {"inet", "inet6"} else gateway[0]
        ip_address(hop["gateway"])
    return hop
