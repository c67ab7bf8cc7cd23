"""xenstore's nodes in a dict, behind the adapter's own port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.adapters.xen.xenstore import Xenstore
from cede.adapters.xen.xenstore_client import Nodes, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Store:
    """What the adapter asks, over a dict of nodes; with `broken` every question fails like that."""

    def __init__(self, nodes: dict[str, str]) -> None:
        self.nodes = nodes
        self.broken: Exception | None = None

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        if self.broken is not None:
            raise self.broken
        look: dict[Operation, Callable[[str], str | None]] = {
            Operation.READ: self.nodes.get,
            Operation.DIRECTORY: self._names,
            Operation.RM: self._remove,
        }
        found = (look[operation](path) for path in paths)
        return [None if text is None else text.encode() for text in found]

    def _names(self, path: str) -> str | None:
        nodes = list(self.nodes)  # two groups may change them meanwhile
        names = {n.removeprefix(f"{path}/").split("/")[0] for n in nodes if f"{path}/" in n}
        return "\0".join(sorted(names)) if names else None

    def _remove(self, path: str) -> str | None:
        gone = [node for node in list(self.nodes) if f"{node}/".startswith(f"{path}/")]
        for node in gone:
            del self.nodes[node]
        return "OK" if gone else None

    def write(self, path: str, value: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        self.nodes[path] = value.decode()

    def in_transaction(self, change: Callable[[Nodes], None]) -> None:
        change(self)

    def close(self) -> None:
        """Nothing was opened."""

    def adapter(self) -> Xenstore:
        """The adapter that asks this one."""
        return Xenstore(self)
