"""A guest of the simulated host: its XML as libvirt keeps it, and the shell on its console."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cede.domain_xml import document
from cede.model.domain import Domain, GuestKind, Hostdev, Silence

if TYPE_CHECKING:
    from sim.passing_time import SimulatedTime

PASSTHROUGH = "<passthrough state='on'/>"


@lru_cache(maxsize=4096)
def _domain(live: str | None, config: str, *, paused: bool) -> Domain:
    return document.domain(live, config, paused=paused)


@lru_cache(maxsize=4096)
def foreign_hostdevs(text: str | None) -> tuple[Hostdev, ...]:
    """The hostdevs in a domain's XML that cede didn't put there; none of no XML."""
    return tuple(h for h in document.hostdevs(text) if not h.owned) if text else ()


@lru_cache(maxsize=4096)
def _domid(live: str) -> int | None:
    found = re.match(r"<domain [^>]*\bid=['\"](\d+)", live)
    return int(found[1]) if found else None


def forget_domains() -> None:
    """Drop the parsed XML that is kept for speed."""
    for kept in (_domain, foreign_hostdevs, _domid):
        kept.cache_clear()


# everybody else's hostdevs in a guest, live and persistent, and the whole XML of a guest that is theirs
Foreign = tuple[tuple[Hostdev, ...], tuple[Hostdev, ...], str]


@dataclass(slots=True, kw_only=True)
class Guest:
    """A domain of libvirt's: its persistent XML, and that of the running one; `theirs` is another tool's."""

    name: str
    config: str
    theirs: bool = False
    live: str | None = None
    paused: bool = False
    silence: Silence | None = None

    @property
    def domid(self) -> int | None:
        return None if self.live is None else _domid(self.live)

    @property
    def domain(self) -> Domain:
        return _domain(self.live, self.config, paused=self.paused)

    @property
    def foreign(self) -> Foreign:
        return (
            foreign_hostdevs(self.live),
            foreign_hostdevs(self.config),
            f"{self.live}{self.config}" if self.theirs else "",
        )

    def run(self, domid: int) -> None:
        """It runs with all that its persistent XML lists."""
        self.live = self.config.replace("<domain ", f"<domain id='{domid}' ", 1)
        self.paused = False


def new_guest(
    name: str,
    number: int,
    kind: GuestKind = GuestKind.PV,
    *,
    features: str = PASSTHROUGH,
    theirs: bool = False,
) -> Guest:
    """A guest that is off, without any device; `number` makes its UUID."""
    machine = " arch='x86_64' machine='xenpv'>linux" if kind is GuestKind.PV else ">hvm"
    config = (
        f"<domain type='xen'><name>{name}</name><uuid>00000000-0000-0000-0000-{number:012}</uuid>"
        f"<os><type{machine}</type></os><features><xen>{features}</xen></features><devices/></domain>\n"
    )
    return Guest(name=name, config=config, theirs=theirs)


class GuestShell:
    """A root shell on its console that answers every command with the same text."""

    def __init__(self, answer: str, time: SimulatedTime) -> None:
        self._answer = answer.replace("\n", "\r\n")
        self._time = time
        self._out: list[bytes] = []

    def send(self, data: bytes) -> None:
        asked = re.search(rb"cede-'([0-9a-f]+)'-begin", data)
        said = "\r\ncede-ready\r\n" if b"ready" in data else "\r\npv1:/# "
        if asked is not None:
            mark = f"cede-{asked[1].decode()}"
            said = f"\r\n{mark}-begin\r\n{self._answer}{mark}-end\r\npv1:/# "
        self._out.append(data + said.encode())

    def receive(self, seconds: float) -> bytes | None:
        if self._out:
            return self._out.pop(0)
        self._time.sleep(seconds)
        return None
