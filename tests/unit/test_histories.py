"""Whatever is asked of cede and whatever fails meanwhile: nothing is lost, nothing foreign is touched, it ends well.

A history is a handful of commands and of things that happen on the host, with faults at the adapters in between. A few
hundred are tried each time; CEDE_HISTORIES says how many, and `contrib/test` asks for 10,000 of them, in a run of
their own. They are the same ones for the same code, so that what fails can be tried again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.faults import ALL, Among, Fault, Kind, Scheduled
from sim.in_memory import MemoryJournal
from unit.history_model import (
    NIC,
    OURS,
    POLICIES,
    THEIRS,
    History,
    Operation,
    host,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORIES = int(os.environ.get("CEDE_HISTORIES", "250"))
IN_MEMORY = Path("/dev/shm")

APPLIED = tuple(f"apply {name}" for name in POLICIES)
ASKED = (
    *APPLIED,
    *APPLIED,
    *(f"{verb} {card}" for verb in ("release", "detach") for card in (*OURS, THEIRS)),
    *(f"{verb} {what}" for verb in ("cede-pause", "drain") for what in (NIC, "pv1")),
    "drain everything",
    "cede-resume",
)
EVENTS = (
    *(
        f"{verb} {guest}"
        for verb in ("start", "destroy", "reboot", "pause", "resume")
        for guest in ("pv1", "hvm1", "old1")
    ),
    *(f"{verb} {card}" for verb in ("vanish", "appear") for card in OURS),
    *(f"{verb} {NIC}" for verb in ("xl-detach", "virsh-detach", "nodedev-reattach")),
    f"virsh-attach {NIC} in their1",
    f"virsh-attach {THEIRS} in pv1",
    f"virsh-config {NIC} in pv1",
    f"virsh-detach {THEIRS}",
    "destroy their1",
    "start their1",
)
HAPPENINGS = tuple(
    Fault(Kind.HAPPENS, done=done, happens=event) for event in EVENTS for done in (0, ALL)
)
FAILURES = (
    *(Fault(Kind.KILLED, done=done) for done in (0, 1, 2, ALL)),
    *(Fault(Kind.DIES, done=done, away=away) for done in (0, 1, 2, ALL) for away in (0, 1, 5)),
    Fault(Kind.BUSY),
    *(Fault(Kind.REFUSES, done=done) for done in (0, 1, 2)),
    *(Fault(Kind.HANGS, done=done) for done in (0, 1, ALL)),
    *(Fault(Kind.LIES, done=done) for done in (0, 1)),
    Fault(Kind.STOPPED),
)

faults = st.sampled_from((*HAPPENINGS, *FAILURES, *FAILURES, *FAILURES))
scheduled = st.one_of(
    st.builds(Scheduled, faults, st.just(Among.CALLS), st.integers(0, 80)),
    st.builds(Scheduled, faults, st.just(Among.ACTIONS), st.integers(0, 40)),
    st.builds(Scheduled, faults, st.just(Among.CHANGES), st.integers(0, 12)),
)
schedules = st.lists(scheduled, max_size=3).map(tuple)
asked = st.builds(Operation, st.sampled_from(ASKED), schedules)
first = st.builds(Operation, st.sampled_from(APPLIED), schedules)
later = st.one_of(asked, asked, st.builds(Operation, st.sampled_from(EVENTS)))


@pytest.fixture(scope="module")
def journal() -> Iterator[MemoryJournal]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        made = MemoryJournal(Path(folder))
        yield made
        made.close()


@settings(max_examples=HISTORIES, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(first=first, rest=st.lists(later, max_size=5), by_policy=st.booleans())
def test_no_device_is_lost_nothing_foreign_is_touched_and_it_converges_once_faults_stop(
    journal: MemoryJournal, first: Operation, rest: list[Operation], by_policy: bool
) -> None:
    made = host(journal)
    reported = History(made)
    for operation in (first, *rest):
        reported.run(operation)
    reported.heal()
    reported.converges()
    reported.comes_home(by_policy=by_policy)


def test_a_guest_that_is_paused_at_any_call_of_a_drain_has_let_go_in_the_end(
    journal: MemoryJournal,
) -> None:
    """libxl gives up on it, and the nodes that it leaves in xenstore are for cede to clear."""
    cleared = 0
    for at in range(40):
        reported = History(host(journal))
        reported.run(Operation("apply A"))
        paused = Scheduled(Fault(Kind.HAPPENS, happens="pause pv1"), Among.CALLS, at)
        reported.run(Operation("drain everything", (paused,)))
        reported.heal()
        reported.converges()
        reported.comes_home(by_policy=True)
        cleared += f"remove-given-up {NIC}" in reported.host.journal
    assert cleared > 0
