"""What a step does to a domain's persistent XML; the plan's diff and its execution are the same edit."""

from __future__ import annotations

from cede import xml
from cede.plan.steps import AddToConfig, Adopt, RemoveFromConfig, Step, SwitchOff, SwitchOn

Edit = AddToConfig | Adopt | RemoveFromConfig | SwitchOn | SwitchOff
EDITS = (AddToConfig, Adopt, RemoveFromConfig, SwitchOn, SwitchOff)


def edited(step: Step, domain_xml: str) -> str:
    """`domain_xml` after the step; unchanged by a step that edits no XML."""
    match step:
        case AddToConfig():
            return xml.with_hostdev(
                domain_xml,
                step.address,
                step.alias,
                permissive=step.permissive,
                policy=step.policy,
            )
        case Adopt():
            return xml.adopted(domain_xml, step.address, step.alias, step.policy)
        case RemoveFromConfig():
            if xml.domain(None, domain_xml).foreign(step.address):
                return domain_xml  # somebody put it there since this was planned
            return xml.without_hostdev(domain_xml, step.address)
        case SwitchOn():
            return xml.with_features(domain_xml, step.features)
        case SwitchOff():
            return xml.without_features(domain_xml, step.features)
        case _:
            return domain_xml
