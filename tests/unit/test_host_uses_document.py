"""contrib/docs/host-uses.md tells of each line of the table of uses; it is in step with the table.

Whether a use was kept before can't be tried again: that column stays as the document has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sim.sys_tree import SysTree
from unit.test_uses_table import USES, Made, found_in

if TYPE_CHECKING:
    import pytest

    from unit.test_uses_table import Line

DOCUMENT = Path(__file__).parents[2] / "contrib/docs/host-uses.md"
_HEAD = "| use | what cede looks at | guard | kept before | kept now |\n|---|---|---|---|---|\n"
_ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| [^|]+ \| [^|]+ \| (?P<before>[^|]+) \| [^|]+ \|$", re.MULTILINE
)
_UNTRIED = "not tried"
# what a tree of the table has -> what it stands for on a host
_SOURCES = tuple(
    (re.compile(pattern), source)
    for pattern, source in (
        (r"^proc/self/mountinfo$", "`/proc/self/mountinfo`"),
        (r"^proc/\d+/mountinfo$", "`/proc/PID/mountinfo`"),
        (r"^proc/\d+/fd/", "`/proc/PID/fd`"),
        (r"^proc/\d+/net/tcp$", "`/proc/PID/net/tcp`"),
        (r"^proc/\d+/root/sys/class/net/", "`/proc/PID/root/sys/class/net`"),
        (r"^proc/(net/(?:tcp|packet|pppoe|can|protocols)|fs/jbd2|swaps|consoles|iomem)", r"`/proc/\1`"),
        (r"^sys/block/\w+/(loop/backing_file|backing_dev)$", r"`/sys/block/*/\1`"),
        (r"^sys/kernel/config/(target|nvmet|netconsole)/", r"`/sys/kernel/config/\1`"),
        (r"^sys/class/(iscsi_connection|nvme|graphics|vtconsole|watchdog|drm|input)/", r"`/sys/class/\1`"),
        (r"/holders/", "`/sys/block/*/holders`"),
        (r"/block/[^/]+/(netif|size)$", r"`/sys/block/*/\1`"),
        (r"^sys/bus/(usb|scsi)/devices/", r"`/sys/bus/\1/devices`"),
        (r"^sys/class/(scsi_host|fc_host)/", r"`/sys/class/\1`"),
        (r"/rport-", "the way to the disk in `/sys/devices`"),
        (r"/(boot_vga|physfn)$", r"`/sys/bus/pci/devices/*/\1`"),
        (r"/0000:\S+/net$", "`/sys/bus/pci/devices/*/net`"),
        (r"^sys/devices/.*/net/[^/]+/lower_", "`/sys/class/net/*/lower_*`"),
        (r"^dev/sda$", "an exclusive open"),
        (r"^sys/module/xfrm_user/", "`ip xfrm state`"),
        (r"^sys/module/l2tp_netlink/", "`ip l2tp show tunnel`"),
        (r"^sys/module/act_mirred/", "`tc qdisc show`, `tc filter show`"),
        (r"^sys/class/net/\w+/flags$", "`/sys/class/net/*/flags`"),
    )
)  # fmt: skip


def _shown(made: Made) -> dict[str, object]:
    """All that the tree and the tools show, by path or name."""
    root = made.tree.root
    return {
        **{
            str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.read_bytes()
            for path in root.rglob("*")
            if path.is_symlink() or path.is_file()
        },
        **{
            str(p.relative_to(root)): b""
            for p in root.rglob("net")
            if p.is_dir() and not list(p.iterdir())
        },
        "`ip route`": [*made.tree.routes],
        "`ip address`": [*made.tree.known],
        "`ip route get`": {**made.tree.reached},
        "domains' disks in libvirt and xenstore": {**made.disks},
        "domains' interfaces in libvirt and xenstore": {**made.interfaces},
        "domains' other devices in libvirt and xenstore": {**made.devices},
        "libvirt's active storage pools": {**made.pools},
    }


def _sources(before: dict[str, object], after: dict[str, object]) -> str:
    sources: list[str] = []
    for name in sorted(name for name, said in after.items() if before.get(name) != said):
        matches = ((pattern.search(name), source) for pattern, source in _SOURCES)
        known = [match.expand(source) for match, source in matches if match]
        sources += known[:1] or ([] if "/" in name and " " not in name else [name])
    return ", ".join(dict.fromkeys(sources)) or "nothing of it"


def _row(folder: Path, line: Line, kept_before: str) -> str:
    folder.mkdir()
    made = Made(SysTree(folder))
    before = _shown(made)
    for step in line.steps:
        step(made)
    guards = found_in(made)
    kept = line.guard in guards.get(line.address, []) if line.guard else bool(guards)
    cells = (
        line.name,
        _sources(before, _shown(made)),
        f"`{line.guard}`" if line.guard else "none: no use",
        kept_before,
        "yes" if kept else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def test_the_document_of_uses_is_in_step_with_the_table(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    introduction, head, _ = written.partition(_HEAD)
    assert head, "the document has a table with these columns"
    before = {row["name"]: row["before"] for row in _ROW.finditer(written)}
    rows = (
        _row(tmp_path / str(number), line, before.get(line.name, _UNTRIED))
        for number, line in enumerate(USES)
    )
    made = introduction + head + "".join(rows)
    if request.config.getoption("--regenerate-golden"):
        DOCUMENT.write_text(made, encoding="utf-8")
    assert made == DOCUMENT.read_text(encoding="utf-8"), (
        "write it anew: pytest tests/unit/test_host_uses_document.py --regenerate-golden"
    )
