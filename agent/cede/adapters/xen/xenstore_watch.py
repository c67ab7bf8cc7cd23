"""The adapter to xenstore's watches: every attach and detach at once, whoever did it, and domains that come and go.

Source: xen/docs/misc/xenstore.txt (WATCH).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.adapters.xen.xenstore_client import XenstoreClient

if TYPE_CHECKING:
    from collections.abc import Collection

BACKEND = "/local/domain/0/backend/pci"
WATCHED = (BACKEND, "@introduceDomain", "@releaseDomain")
_WORDS = {"@introduceDomain": "a domain came", "@releaseDomain": "a domain went"}


class XenstoreWatch:
    """Watches PCI's backend nodes and domains."""

    name = "xenstore"

    def __init__(self, client: XenstoreClient) -> None:
        self._client = client
        self._new: set[str] = set()

    def open(self) -> None:
        """Connect and set the watches. Raises UnreachableError if xenstored doesn't answer or refuses."""
        self._new = set(WATCHED)  # xenstored fires each watch once when it is set
        self._client.watch(WATCHED)

    def fileno(self) -> int:
        """Readable when xenstored has said something."""
        return self._client.fileno()

    def read(self) -> Collection[str]:
        """What changed since, in words. Raises UnreachableError if xenstored hung up or talks nonsense."""
        changed = []
        for path, watched in self._client.events():
            if watched in self._new:
                self._new.discard(watched)
            else:
                changed.append(_WORDS.get(path) or path.removeprefix("/local/domain/0/"))
        return changed

    def close(self) -> None:
        """Hang up, which ends the watches."""
        self._client.close()
