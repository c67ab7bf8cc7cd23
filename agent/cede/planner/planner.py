"""The planner: from what is wanted and what is so, the steps that lead from one to the other.

Pure and deterministic: the same targets give the same plan. Each assignment asks its questions in one
order, from "is it the right device" to "what is missing", and the first answer that ends the matter is the plan for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cede.errors import Exit
from cede.model.plan import NoOp, Plan, Refusal, Work
from cede.planner.attach import Wish, attach
from cede.planner.guards import refuse_guarded
from cede.planner.match import refuse_twice
from cede.planner.ownership import leftover, refuse_elsewhere, stale
from cede.planner.pauses import drain, drain_beyond, left_alone, unless_paused
from cede.planner.recovery import refuse_held, settle, strays

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause, Unfinished
    from cede.model.pci import Address
    from cede.planner.resolve import Targets

    Verdict = Work | NoOp | Refusal


def plan(targets: Targets, *, scheduled: bool = False) -> Plan:
    """What to do so that every target's device is attached, and nothing that this policy once gave is left.

    What a person paused is left as it is, what they drained is dom0's. `scheduled` tells that a timer asks and no
    person: then `on_drift` of each assignment decides whether what somebody took away is put back.
    """
    policy, inventory = targets.policy, targets.inventory
    verdicts: list[Verdict] = []
    wishes: list[Wish] = []
    resting: dict[int, Pause] = {}
    for target in targets.each:
        device, domain, pause = target.device, target.domain, target.pause
        if device is not None and domain is not None:
            wish = Wish(
                subject=target.subject,
                assignment=target.assignment,
                device=device,
                domain=domain,
                policy=policy,
                inventory=inventory,
            )
            wishes.append(wish)
            if pause is not None:
                resting[len(wishes) - 1] = pause
        elif pause is not None:
            verdicts.append(left_alone(target.subject, pause))
        elif target.refusal is not None:
            verdicts.append(target.refusal)
    unsure = targets.unresolved
    wanted_now = {wish.device.address for wish in wishes}
    begun = {u.address: u for u in inventory.unfinished if u.address not in wanted_now}
    pairs = {wish.pair for wish in wishes}
    strayed = strays(inventory, pairs)
    ended = [settle(u, inventory) for u in begun.values() if _told(u, unsure)]
    ended += strayed.values()
    cut_off = {work.address for work in ended if isinstance(work, Work)}
    left = [
        (domain, mark)
        for domain, mark in stale(policy, inventory, pairs, unsure)
        if mark.address not in cut_off
    ]
    leaving = {*strayed} | {
        (mark.address, d.uuid) for d, mark in left if mark.policy == policy.source
    }
    crowd = Crowd.of(wish for number, wish in enumerate(wishes) if number not in resting)
    going: set[Address] = set()
    drained: set[Address] = set()
    for number, wish in enumerate(wishes):
        if number in resting:
            verdict = _rest(wish, resting[number], drained)
            verdicts.append(verdict)
            continue
        verdict = judge(wish, crowd, leaving, scheduled=scheduled)
        verdicts.append(verdict)
        if not isinstance(verdict, Refusal) or verdict.exit is Exit.TRY_LATER:
            going.add(wish.device.address)
    out: list[Verdict] = [
        *(verdict for verdict in ended if verdict is not None),
        *(leftover(*one, policy, inventory, going) for one in left),
    ]
    out = [v for v in out if not (isinstance(v, Work) and v.address in drained)]
    handled = wanted_now | {v.address for v in out if isinstance(v, Work)}
    beyond = {verdict.subject: verdict for verdict in drain_beyond(inventory, handled)}
    out = [*(verdict for verdict in out if verdict.subject not in beyond), *beyond.values()]
    return gather([*verdicts, *(_unless_held(verdict, inventory) for verdict in out)])


def _rest(wish: Wish, pause: Pause, drained: set[Address]) -> Verdict:
    """Leave it, or take it back to dom0: once, however many domains it is assigned to."""
    address = wish.device.address
    if not pause.drained or address in drained:
        return left_alone(wish.subject, pause, address)
    others = [d for d in wish.inventory.wanting(address) if d.uuid != wish.domain.uuid]
    if others and not wish.live and not wish.config and not pause.everything and pause.domain:
        return left_alone(wish.subject, pause, address)  # its alternative has it
    verdict = drain(wish.device, wish.subject, pause, wish.inventory)
    if isinstance(verdict, Work):
        drained.add(address)
    return _unless_held(verdict, wish.inventory)


def _unless_held(verdict: Verdict, inventory: Inventory) -> Verdict:
    if not isinstance(verdict, Work) or verdict.address is None:
        return verdict
    return refuse_held(verdict.address, verdict.subject, inventory) or unless_paused(
        verdict, inventory
    )


def _told(begun: Unfinished, unsure: Collection[str]) -> bool:
    """Not of a device that can't be told at the moment."""
    return not any(begun.subject.startswith(f"{name} -> ") for name in unsure)


def gather(verdicts: Iterable[Verdict]) -> Plan:
    """A plan of the verdicts, each kind in the order given."""
    verdicts = list(verdicts)
    return Plan(
        work=tuple(v for v in verdicts if isinstance(v, Work)),
        noops=tuple(v for v in verdicts if isinstance(v, NoOp)),
        refusals=tuple(v for v in verdicts if isinstance(v, Refusal)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What all wishes together ask for.

    `twice` are the addresses that several devices turned out to be, or that one domain is to have twice; `plugged`
    those to be hot-plugged now; `starting` those that a domain, by UUID, may get at its next start.
    """

    twice: frozenset[Address]
    plugged: frozenset[Address]
    starting: Mapping[str, frozenset[Address]]

    @classmethod
    def of(cls, wishes: Iterable[Wish]) -> Self:
        """The crowd of `wishes`."""
        names: dict[Address, set[str]] = {}
        pairs: Counter[tuple[Address, str]] = Counter()
        starting: dict[str, set[Address]] = {}
        plugged: set[Address] = set()
        for wish in wishes:
            address = wish.device.address
            names.setdefault(address, set()).add(wish.assignment.device)
            pairs[wish.pair] += 1
            if wish.plugging:
                plugged.add(address)
            elif wish.for_next_start and not _elsewhere(wish):
                starting.setdefault(wish.domain.uuid, set()).add(address)
        twice = {pair[0] for pair, times in pairs.items() if times > 1}
        twice |= {address for address, several in names.items() if len(several) > 1}
        return cls(
            twice=frozenset(twice),
            plugged=frozenset(plugged),
            starting={uuid: frozenset(addresses) for uuid, addresses in starting.items()},
        )


def judge(
    wish: Wish,
    crowd: Crowd,
    leaving: Collection[tuple[Address, str]] = (),
    *,
    scheduled: bool = False,
) -> Verdict:
    """What is to be done about one wish among the `crowd` of all.

    `leaving` are the (address, domain UUID) pairs that are cleaned up in the same pass.
    """
    policy, inventory = wish.policy, wish.inventory
    if wish.device.address in crowd.twice:
        return refuse_twice(wish.assignment.device, wish.device.address, wish.subject)
    described = policy.device(wish.assignment.device)
    override = described.override if described else ()
    return (
        refuse_held(wish.device.address, wish.subject, inventory)
        or refuse_guarded(wish.device, wish.subject, inventory, policy.protect, override)
        or _alternative(wish)
        or _elsewhere(wish, leaving)
        or attach(
            wish,
            starting=crowd.starting.get(wish.domain.uuid, ()),
            rivals=crowd.plugged,
            scheduled=scheduled,
        )
    )


def _elsewhere(wish: Wish, leaving: Collection[tuple[Address, str]] = ()) -> Refusal | None:
    return refuse_elsewhere(wish.device, wish.domain, wish.subject, wish.inventory, leaving)


def _alternative(wish: Wish) -> NoOp | None:
    """Of several domains declared as alternatives, one has the device: who has it, else the first that runs."""
    wanted = wish.policy.assignments_of(wish.assignment.device)
    group = [domain for w in wanted if (domain := wish.inventory.domain(w.domain))]
    if len(group) < 2:  # noqa: PLR2004 - one alone is no alternative
        return None
    address = wish.device.address
    having = [d for d in group if d.live_hostdev(address)] or [
        d for d in group if d.config_hostdev(address)
    ]
    chosen = (having or [d for d in group if d.running] or group)[0]
    if chosen.uuid == wish.domain.uuid:
        return None
    return NoOp(
        subject=wish.subject,
        reason=f"its alternative {chosen.name} has {address}, or comes first",
        settled=True,
    )
