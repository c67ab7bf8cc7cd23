"""What is mounted, in every mount namespace: on which device, or from which server.

Sources: proc(5) (mountinfo), Documentation/filesystems/nfs (addr=, clientaddr=), fs/smb/client, fs/ceph/super.c.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from cede.errors import PermanentError
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")
_ADDRESS = re.compile(r"[0-9a-fA-F:.]{3,}")
_SEPARATOR = "-"
_REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "fuse",
    "9p",
    "afs",
    "lustre",
    "autofs",
    "coda",
    "orangefs",
)
_FIELDS = 6


class Mount(NamedTuple):
    """A mounted file system: its device's number, where it is, its type, its source and the options of its super block.

    `namespace` is empty for what cede itself sees.
    """

    number: str
    where: str
    kind: str = ""
    source: str = ""
    options: str = ""
    namespace: str = ""

    @property
    def servers(self) -> tuple[str, ...]:
        """The IP addresses that its source and options name, of a file system without a device."""
        if not self.number.startswith("0:"):
            return ()
        named = [option.partition("=") for option in self.options.split(",")]
        texts = [value for name, _, value in named if name.endswith("addr")]
        texts += _ADDRESS.findall(self.source)
        return tuple(dict.fromkeys(address for part in texts for address in _addresses(part)))

    @property
    def remote(self) -> bool:
        """Whether a server or a program answers for its files, which may never do so."""
        return self.number.startswith("0:") and self.kind.startswith(_REMOTE)

    @property
    def place(self) -> str:
        """Where it is, and in which namespace."""
        return f"{self.where} ({self.namespace})" if self.namespace else self.where


def own_mounts(proc: Path) -> tuple[Mount, ...]:
    """Return what is mounted where cede runs.

    Raises PermanentError if that can't be read, or has no root: nothing found would say that no disk is in use.
    """
    own = tuple(_parsed(text(proc / "self/mountinfo"), ""))
    if all(mount.where != "/" for mount in own):
        raise PermanentError(
            f"{proc}/self/mountinfo can't be read or names no root file system, so cede can't tell what is mounted",
            name="mounts-unknown",
            remedy="is /proc mounted?",
        )
    return own


def mounts_elsewhere(
    proc: Path, namespaces: Mapping[str, Sequence[str]], own: Iterable[Mount]
) -> tuple[Mount, ...]:
    """Return what other mount namespaces have, each with its processes, and `own` has not."""
    known = {(mount.number, mount.source) for mount in own}
    others: dict[tuple[str, str], Mount] = {}
    for processes in namespaces.values():
        texts = ((process, text(f"{proc}/{process}/mountinfo")) for process in processes)
        process, said = next((found for found in texts if found[1]), ("", ""))
        name = text(f"{proc}/{process}/comm") if process else ""
        for mount in _parsed(said, f"in the mount namespace of {name or process}"):
            if (mount.number, mount.source) not in known:
                others.setdefault((mount.number, mount.source), mount)
    return tuple(others.values())


def _parsed(said: str, namespace: str) -> Iterator[Mount]:
    for line in said.splitlines():
        fields = line.split(" ")
        if len(fields) < _FIELDS:
            continue
        after = fields.index(_SEPARATOR) if _SEPARATOR in fields else len(fields)
        kind, source, options = (*fields[after + 1 : after + 4], "", "", "")[:3]
        yield Mount(fields[2], _plain(fields[4]), kind, _plain(source), options, namespace)


def _plain(written: str) -> str:
    if "\\" not in written:
        return written
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), written)


def _addresses(written: str) -> Iterator[str]:
    """Yield the address in `192.0.2.1`, `192.0.2.1:6789:` or `2001:db8::1`."""
    bare = written.strip(":.")
    for spelled in (bare, bare.rpartition(":")[0]):
        try:
            found = ip_address(spelled)
        except ValueError:
            continue
        if not found.is_unspecified and not found.is_loopback:
            yield str(found)
        return
