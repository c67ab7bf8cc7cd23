"""xl's configuration files, read as data: text in, the guest's name and PCI devices out, or every complaint at once.

xl reads a small language that looks like Python and is none. Here the same language is read, and nothing is ever run:
text (characters -> settings with their places), pci_spec (one entry of `pci = [...]`), meaning (settings -> a guest).
Sources: tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_pci.c (Xen), xl.cfg(5), xl-pci-configuration(5).
"""

from __future__ import annotations

from cede.errors import UsageError
from cede.xl_cfg.meaning import Guest, XlDevice, guest_of
from cede.xl_cfg.text import Complaint, read_settings

__all__ = ["MAX_BYTES", "Guest", "XlDevice", "parse"]

MAX_BYTES = 256 * 1024
_MOST_SHOWN = 20


def parse(content: bytes, file: str) -> Guest:
    """The guest that an xl.cfg describes; `file` is its name in places and complaints.

    Raises UsageError, and nothing else, with a line `file:line:column: what` for each thing that is wrong with it.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(f"{file}: larger than {MAX_BYTES} bytes, which is no xl.cfg")
    complaints: list[Complaint] = []
    settings = read_settings(content.decode("utf-8", "replace"), file, complaints)
    guest = guest_of(settings, file, complaints)
    if complaints or guest is None:
        raise _error(complaints)
    return guest


def _error(complaints: list[Complaint]) -> UsageError:
    ordered = sorted(complaints, key=lambda c: (c.place.line, c.place.column))
    lines = [f"{complaint.place}: {complaint.text}" for complaint in ordered]
    if len(lines) > _MOST_SHOWN:
        lines[_MOST_SHOWN:] = [f"{len(lines) - _MOST_SHOWN} more complaints after these"]
    return UsageError(
        "\n".join(lines), remedy="mend these lines, or comment them out; nothing was written"
    )
