"""What cede read of a real host's kernel, kept in tests/trees: one whole record, and what each other one differs by."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.host_uses.nodes import DeviceNumber, Nodes
from cede.adapters.linux.network_links import Links
from cede.model.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.model.network import Network, Redirect

TREES = Path(__file__).parents[1] / "trees"
FIRST = "nothing"
_PARTS = ("guests", "ip", "nodes", "tree", "ways")
_GONE = {"gone": True}


def save(records: Iterable[dict[str, Any]], folder: Path = TREES) -> None:
    """Write each record to a file of its name, all but the first as what they differ by from it."""
    folder.mkdir(exist_ok=True)
    base: dict[str, Any] = {}
    for record in records:
        base = base or record
        kept = {
            part: _difference({} if record is base else base[part], record[part]) for part in _PARTS
        }
        written = {**{key: record[key] for key in record if key not in _PARTS}, **kept}
        text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=True)
        (folder / f"{record['name']}.json").write_text(text + "\n", encoding="ascii")


def _difference(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    changed = {key: value for key, value in other.items() if key not in base or base[key] != value}
    return {**changed, **{key: _GONE for key in base if key not in other}}


def load(name: str, folder: Path = TREES) -> dict[str, Any]:
    """Read the record of that name, whole."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="ascii"))
    if name == FIRST:
        return found
    base = load(FIRST, folder)
    for part in _PARTS:
        merged = {**base[part], **found[part]}
        found[part] = {key: value for key, value in merged.items() if value != _GONE}
    return found


@dataclass(frozen=True, slots=True)
class RecordedNodes(Nodes):
    """Answers as the device nodes did."""

    root: Path
    said: dict[str, Any]

    def _asked(self, what: str, path: str) -> Any:  # noqa: ANN401 - as it was noted
        return self.said.get(f"{what} {str(path).removeprefix(str(self.root))}")

    def number(self, path: str) -> DeviceNumber | None:
        found = self._asked("number", path)
        return None if found is None else DeviceNumber(*found)

    def filesystem(self, path: str) -> str | None:
        found: str | None = self._asked("filesystem", path)
        return found

    def held(self, path: str, number: str) -> bool:
        return bool(self._asked("held", path) == number)

    def console_frame_buffers(self, path: str) -> frozenset[int]:
        return frozenset(self._asked("frame buffers", path) or ())


class RecordedNetwork:
    """Answers as `ip` did, by cede's own parser."""

    def __init__(self, record: dict[str, Any]) -> None:
        self._ways = record["ways"]
        said = record["ip"]
        self._links = Links(
            lambda *argv, **_: said[" ".join(argv)],
            lambda *argv, **_: Printed(said[" ".join(argv)].encode()),  # type: ignore[arg-type]
        )

    def network(self) -> Network:
        return self._links.network()

    def ways(self, peers: Sequence[str]) -> dict[str, str]:
        return {peer: self._ways[peer] for peer in peers if peer in self._ways}

    def ipsec_ends(self) -> tuple[tuple[str, str], ...]:
        return self._links.ipsec_ends()

    def l2tp_ends(self) -> tuple[tuple[str, str], ...]:
        return self._links.l2tp_ends()

    def redirects(self) -> tuple[Redirect, ...]:
        return self._links.redirects()


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program printed."""

    out: bytes


def recorded_uses(record: dict[str, Any], root: Path) -> dict[str, list[dict[str, Any]]]:
    """The uses that cede finds in the record, whose tree is built below the empty folder `root`."""
    tree = record["tree"]
    for path, what in sorted(tree.items()):
        made = root / _without_links(tree, path).lstrip("/")
        if os.path.lexists(made):  # it was asked for by two names
            continue
        made.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            made.mkdir()
        elif isinstance(what, list):
            made.symlink_to(what[0])
        else:
            made.write_text(what + "\n", encoding="utf-8")
    network, nodes = RecordedNetwork(record), RecordedNodes(root, record["nodes"])
    sys_root, proc, run, dev = (root / name for name in ("sys", "proc", "run", "dev"))
    found = HostUses(sys_root, proc, run, dev, network, nodes).find(
        network.network(), Served(**record["guests"])
    )
    return {
        str(address): [{"guard": use.guard, "chain": list(use.chain)} for use in its]
        for address, its in sorted(found.items())
    }


def _without_links(tree: dict[str, Any], path: str) -> str:
    """The path with all links in it resolved, but for the last part."""
    folder, _, name = path.rpartition("/")
    if not folder:
        return path
    folder = _without_links(tree, folder)
    while isinstance(target := tree.get(folder), list):
        folder = _without_links(tree, os.path.normpath(f"{folder.rpartition('/')[0]}/{target[0]}"))
    return f"{folder}/{name}"
