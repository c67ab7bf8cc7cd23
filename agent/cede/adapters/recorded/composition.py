"""The composition root of a recorded host: opens adapters that read a tree and nothing of this machine."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from cede.adapters.ports import Adapters
from cede.adapters.recorded.answers import read_answers
from cede.adapters.recorded.contained_copy import contained_copy
from cede.adapters.recorded.dom0 import (
    RecordedKernelLog,
    RecordedLinks,
    RecordedModules,
    RecordedSysfs,
    RecordedUses,
)
from cede.adapters.recorded.toolstack import (
    RecordedDaemons,
    RecordedHypervisor,
    RecordedLibvirt,
    RecordedXenstore,
    RecordedXl,
)
from cede.adapters.runtime import LibvirtAccess
from cede.model.journal_state import JournalState
from cede.state.key_files import RefusedLogins
from cede.util.kernel_files import listing, text
from cede.util.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cede.adapters import ports
    from cede.adapters.runtime import Runtime
    from cede.model.conditions import Condition
    from cede.model.host_answers import HostAnswers
    from cede.state.journal import Journal


@contextmanager
def recorded_runtime(runtime: Runtime, tree: Path) -> Iterator[Runtime]:
    """Yield the runtime of the host in the tree, for one command that only reads.

    Raises UsageError as `contained_copy` does.
    """
    with contained_copy(tree) as copy:
        yield replace(
            runtime,
            open_adapters=open_recorded,
            recorded=True,
            is_root=True,
            paths=Paths(root=copy),
            clock=replace(runtime.clock, sleep=lambda _seconds: None),  # nothing there changes
        )


@contextmanager
def open_recorded(runtime: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
    """Open adapters that read below `runtime.paths`.

    What libvirt is not told to have said is an error if asked, as where it doesn't answer; so too with OPTIONAL access
    what xenstore is not told to have said. With OFFLINE access both are left out, and so are recorded errors.
    """
    paths = runtime.paths
    answers = read_answers(paths.root)
    if access is LibvirtAccess.OFFLINE:
        answers = replace(answers, silences=())
    sysfs = RecordedSysfs(paths.sys, answers)
    journal = runtime.journal()
    try:
        yield Adapters(
            libvirt=cast(
                "ports.Libvirt",
                RecordedLibvirt(paths, answers, strict=access is not LibvirtAccess.OFFLINE),
            ),
            sysfs=sysfs,
            xenstore=cast(
                "ports.Xenstore", RecordedXenstore(answers, strict=access is LibvirtAccess.OPTIONAL)
            ),
            uses=RecordedUses(paths, sysfs, answers),
            links=cast("ports.Links", RecordedLinks(paths.root, answers)),
            kernel=cast("ports.Kernel", RecordedXl(answers)),
            modules=RecordedModules(paths.root, answers),
            kernel_log=RecordedKernelLog(paths.root),
            xl=cast("ports.Xl", RecordedXl(answers)),
            hypervisor=cast("ports.Hypervisor", RecordedHypervisor(paths, answers)),
            daemons=RecordedDaemons(),
            journal=cast("Journal", RecordedMemory(answers, journal.time))
            if answers.memory
            else journal,
            refused_logins=RefusedLogins(paths.refused_logins),
            clock=runtime.clock,
            timeouts=runtime.timeouts,
            seed=runtime.seed,
        )
    finally:
        journal.close()


def untold(runtime: Runtime) -> tuple[str, ...]:
    """Return what the recorded host does not tell that commands rest on, as phrases."""
    answers, definitions = read_answers(runtime.paths.root), "etc/libvirt/libxl"
    domains = "what libvirt's domains have" if not listing(runtime.paths.root / definitions) else ""
    running = "which domains run" if not domains else ""
    found = (
        (domains or running) if answers.domains is None else "",
        "what xenstore has of guests' devices" if answers.backend is None else "",
        "all that dom0 itself uses" if answers.uses is None else "",
        "" if text(runtime.paths.proc / "cmdline") else "the kernel's command line",
        "" if (runtime.paths.root / "etc/modprobe.d").is_dir() else "modprobe's configuration",
    )
    return tuple(what for what in found if what)


class RecordedMemory:
    """What cede's journal told planning, where the journal itself is not in the tree."""

    def __init__(self, answers: HostAnswers, time: str) -> None:
        self._answers = answers
        self.boot, self.warnings, self.time = answers.boot, list[str](), time

    def conditions(self, _source: str) -> tuple[Condition, ...]:
        """Return nothing: what the last pass came to is not recorded."""
        return ()

    def load_state(self) -> JournalState:
        """Return what was recorded."""
        recorded = self._answers
        return JournalState(
            origins={one.address: one.state for one in recorded.origins},
            unfinished=recorded.unfinished,
            held=recorded.held,
            pauses=recorded.pauses,
            last_applied=recorded.last_applied,
        )
