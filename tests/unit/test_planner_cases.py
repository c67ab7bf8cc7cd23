"""The planner, one case per file: a host, a policy, and the plan that must come of them (tests/cases/*.yaml).

A device that says nothing of its reset has one by power management; `reset` is libvirt's (flr, pm, bus, none; null if
that can't be told), or `space` is the configuration space of a real card (sim/config_spaces.py). On bus 0, and where it
says so, it is on a root bus. A domain that says nothing is PV, persistent,
off (no domid) and has passthrough and the host's memory map; its XML says so too unless `features` differ. It is
`paused` by libvirt's word; `silence` is why it can't answer by Xen's (paused, crashed, shutting-down, saving).
`live` and `config` list hostdevs, cede's own with their name: "0000:01:00.0 as nic0", and "permissive" after that.
`noted` are cede's notes in a domain: address: [name, policy]; `given` is xenstore's word: address: domid. A device
`in_guest` is some guest's by Xen's own word; `listed` tells whether libvirt lists it, null if that can't be told.
`taken` is what dom0 had in it before cede took it: driver and MAC. With `boot: true` it is the plan of the early
binder. `remembered` is what the journal knows of the card that was at an address. `left` is where the last pass left
what: [address, domain, "live config"]. `gave` is whom cede gave a card to last: [address, name in the policy, domain,
domid, the card's number], `quarantined` which cards it found broken: address: why; `off_the_bus` and `errors` are what
is seen of one. `virtual_functions` is what a device can have (`total`) and has, with the `settings` of each. `nodes`
are what dom0 has through a device, by name: [kind, about, id]. `paused` and `drained` list what the administrator named
so, "everything" too; `scheduled` tells that no person asks; `restarts` lists those that the pass may do.

`plan` is what it decides by subject (unit/decisions.py): `change` with its actions, its `purpose` unless that is a
first attach, whether the rest is `action_required` of the administrator, which domain is to `restart`, and the `group`
of what is done together; or `refused` with the name of the rule and the kind of refusal; or `satisfied` and why; or in
a word why there is nothing to do. The sentences for people are all in tests/golden/plan.txt (`pytest
--regenerate-golden` writes it).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cede.adapters.linux.config_space import own_reset
from cede.commands import output
from cede.model.actions import AddToConfig, Adopt, HotPlug
from cede.model.domain import FEATURES, Domain, GuestKind, Hostdev, Ownership, Silence, own_alias
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import (
    Given,
    LastApplied,
    Origin,
    Pause,
    Quarantined,
    Unfinished,
)
from cede.model.pci import Address, Device, HostUse, Identity, Link, Node, OriginalState, Reset
from cede.model.plan import Plan
from cede.model.policy import Restart
from cede.model.virtual_functions import FunctionSettings, VirtualFunctions
from cede.planner.boot_plan import plan_boot
from cede.planner.planner import plan
from cede.planner.release import release
from cede.planner.resolve import resolve_targets
from cede.planner.restarts import Restarts
from cede.policy import policy_files
from sim import config_spaces
from unit.decisions import decisions

SOURCE = "policy.yaml"
CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.yaml"))


def _device(address: str, said: dict[str, Any]) -> Device:
    vendor, device = said.get("id", "8086:10d3").split(":")
    identity = Identity(
        vendor=vendor,
        device=device,
        class_code=said.get("class", "020000"),
        subsystem=said.get("subsystem", ""),
    )
    on_root_bus = said.get("root_bus", ":00:" in address)
    return Device(
        address=Address.parse(address),
        identity=identity,
        original_state=_origin(identity, said["taken"]) if "taken" in said else None,
        driver=said.get("driver"),
        driver_override=said.get("override"),
        mac=said.get("mac"),
        serial=said.get("serial"),
        asleep=said.get("asleep", False),
        unrestored=tuple(said.get("unrestored", ())),
        path=said.get("path", ""),
        reset=_reset(said, on_root_bus=on_root_bus),
        on_root_bus=on_root_bus,
        physical_function=_address(said.get("physical_function")),
        function_index=said.get("function"),
        interfaces=tuple(said.get("interfaces", ())),
        virtual_functions=_functions(said.get("virtual_functions")),
        requester=_address(said.get("requester")),
        node_device=said.get("listed", True),
        instance=said.get("instance"),
        off_the_bus=said.get("off_the_bus", False),
        aer_errors=tuple(said.get("errors", ())),
        in_pciback_slots=said.get("slot", said.get("driver") == "pciback"),
        in_guest=said.get("in_guest", False),
        nodes=tuple(
            Node(kind=kind, name=name, about=about, id=id_)
            for name, (kind, about, id_) in said.get("nodes", {}).items()
        ),
        uses=tuple(
            HostUse(guard=guard, chain=tuple(chain))
            for guard, chain in said.get("uses", {}).items()
        ),
    )


def _functions(said: dict[str, Any] | None) -> VirtualFunctions | None:
    return (
        VirtualFunctions(
            total=said["total"],
            count=said.get("count", 0),
            probed=said.get("probed", False),
            up=said.get("up", True),
            settings=tuple(FunctionSettings(**one) for one in said.get("settings", ())),
        )
        if said
        else None
    )


def _reset(said: dict[str, Any], *, on_root_bus: bool) -> Reset | None:
    if "space" not in said:
        found = said.get("reset", "pm")
        return None if found is None else Reset(found)
    space: bytes = getattr(config_spaces, said["space"].upper().replace("-", "_"))
    own = own_reset(lambda offset, size: space[offset : offset + size])
    return Reset.BUS if own is Reset.NONE and not on_root_bus else own


def _address(said: str | None) -> Address | None:
    return Address.parse(said) if said else None


def _origin(identity: Identity, said: dict[str, str]) -> OriginalState:
    links = (Link(name="eth0", mac=said["mac"]),) if "mac" in said else ()
    return OriginalState(identity=identity, driver=said.get("driver"), links=links)


def _hostdevs(said: list[str]) -> tuple[Hostdev, ...]:
    """`0000:01:00.0 as nic0` is cede's own, a bare address another tool's; each may be `permissive`."""
    split = [(text.removesuffix(" permissive"), text.endswith(" permissive")) for text in said]
    return tuple(
        Hostdev(
            address=Address.parse(text.partition(" as ")[0]),
            alias=f"ua-cede-{text.partition(' as ')[2]}" if " as " in text else None,
            write_filtering=not permissive,
        )
        for text, permissive in split
    )


def _domain(name: str, said: dict[str, Any]) -> Domain:
    return Domain(
        name=name,
        uuid=said.get("uuid", f"uuid-of-{name}"),
        kind=GuestKind(said.get("kind", "pv")),
        domid=said.get("domid"),
        paused=said.get("paused", False),
        silence=Silence(said["silence"]) if "silence" in said else None,
        persistent=said.get("persistent", True),
        passthrough=said.get("passthrough", True),
        e820_host=said.get("e820_host", True),
        features=tuple(said.get("features", [name for name in FEATURES if said.get(name, True)])),
        memory=said.get("memory", 0),
        current_memory=said.get("current_memory", 0),
        ownership=tuple(
            Ownership(name=name, address=Address.parse(address), policy=source)
            for address, (name, source) in said.get("noted", {}).items()
        ),
        unreadable=said.get("unreadable", ""),
        unknown_volumes=tuple(said.get("unknown_volumes", ())),
        live=_hostdevs(said.get("live", [])),
        config=_hostdevs(said.get("config", [])),
    )


def _inventory(host: dict[str, Any]) -> Inventory:
    return Inventory(
        devices=tuple(_device(address, said) for address, said in host.get("devices", {}).items()),
        domains=tuple(_domain(name, said) for name, said in host.get("domains", {}).items()),
        backend=tuple(
            BackendDevice(
                **({"domid": said} if isinstance(said, int) else said),
                address=Address.parse(address),
                index=0,
            )
            for address, said in host.get("given", {}).items()
        ),
        pciback_loaded=host.get("pciback", True),
        seed=host.get("seed", "this host"),
        origins=tuple(
            Origin(
                address=Address.parse(address),
                state=replace(
                    _origin(_device(address, said).identity, said), serial=said.get("serial")
                ),
            )
            for address, said in host.get("remembered", {}).items()
        ),
        pauses=tuple(
            _pause(target, drained=kind == "drained")
            for kind in ("paused", "drained")
            for target in host.get(kind, [])
        ),
        quarantined=tuple(
            Quarantined(address=Address.parse(address), reason=reason, since="noon")
            for address, reason in host.get("quarantined", {}).items()
        ),
        given_before=tuple(
            Given(
                address=Address.parse(address),
                device=device,
                domain=name,
                domid=domid,
                instance=next(iter(instance), None),
            )
            for address, device, name, domid, *instance in host.get("gave", [])
        ),
        last_applied=tuple(
            LastApplied(
                address=Address.parse(address),
                domain=f"uuid-of-{name}",
                live="live" in where,
                config="config" in where,
            )
            for address, name, where in host.get("left", [])
        ),
        unfinished=tuple(
            Unfinished(
                subject=subject,
                device=subject.partition(" -> ")[0],
                address=Address.parse(address),
                domain=name,
                attaching=False,
            )
            for subject, address, name in host.get("going", [])
        ),
    )


def _pause(target: str, *, drained: bool) -> Pause:
    domain = f"uuid-of-{target}" if target.startswith(("pv", "hvm")) else ""
    device = target if not domain and target != "everything" else ""
    return Pause(
        target=target, domain=domain, device=device, drained=drained, requester="ann", since="noon"
    )


def _planned(case: dict[str, Any]) -> Plan:
    inventory = _inventory(case["host"])
    if "release" in case:
        address = Address.parse(case["release"])
        return Plan(decisions=(release(address, f"release {address}", inventory),))
    policy = policy_files.parse(yaml.safe_dump(case["policy"]), SOURCE)
    if case.get("boot"):
        return plan_boot(policy, inventory)
    permitted = frozenset(map(Restart, case.get("restarts", ())))
    return plan(
        resolve_targets(policy, inventory),
        scheduled=case.get("scheduled", False),
        restarts=Restarts(permitted=permitted),
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_plan_decides_what_the_case_says(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    planned = _planned(case)
    assert decisions(planned) == case["plan"]
    for change in planned.changes:
        claims = [s for s in change.actions if isinstance(s, HotPlug | AddToConfig | Adopt)]
        of_card = planned.assignment_of(change.subject) != change.subject
        for action in claims:
            assert action.alias == own_alias(change.device, action.address, of_card=of_card)
        assert {s.policy for s in claims if not isinstance(s, HotPlug)} <= {SOURCE}


def test_the_sentences_of_every_plan_are_the_golden_ones(
    golden: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for path in CASES:
        output.plan(_planned(yaml.safe_load(path.read_text())))
        said.append(f"== {path.stem}\n{capsys.readouterr().out}")
    golden("plan.txt", "\n".join(said))


def test_there_are_cases_at_all() -> None:
    assert CASES


PRINT_PLANS = """
from unit.test_planner_cases import CASES, _planned
import yaml
print(*(_planned(yaml.safe_load(path.read_text())) for path in CASES), sep="\\n")
"""


def test_the_plans_are_the_same_however_python_orders_its_sets() -> None:
    """Texts hash otherwise in each process; a plan that came from a set's order would be another each time."""
    paths = os.pathsep.join(sys.path)
    plans = [
        subprocess.run(
            [sys.executable, "-c", PRINT_PLANS],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert plans[0].count("Plan(") == len(CASES)
    assert plans[0] == plans[1] == plans[2]
