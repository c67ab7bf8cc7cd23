"""Edits of a domain's persistent XML: the XML after an action, and the incremental changes that lead there.

Defining a domain replaces all of its XML, also what another tool changed since it was read. Adding or removing one
hostdev, or setting the ownership metadata, leaves everything else as it is at that moment.

Source: virDomainAttachDeviceFlags, virDomainDetachDeviceFlags and virDomainSetMetadata with VIR_DOMAIN_AFFECT_CONFIG,
https://libvirt.org/html/libvirt-libvirt-domain.html
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from lxml import etree

from cede.domain_xml import document, metadata
from cede.domain_xml.xml_text import parsed
from cede.model.actions import Action, AddToConfig, Adopt, RemoveFromConfig, SwitchOff, SwitchOn

Edit = AddToConfig | Adopt | RemoveFromConfig | SwitchOn | SwitchOff
EDITS = (AddToConfig, Adopt, RemoveFromConfig, SwitchOn, SwitchOff)


def edited(action: Action, domain_xml: str) -> str:
    """Return `domain_xml` after the action; unchanged by an action that edits no XML."""
    match action:
        case AddToConfig():
            return document.with_hostdev(
                domain_xml,
                action.address,
                action.alias,
                permissive=action.permissive,
                policy=action.policy,
            )
        case Adopt():
            return document.adopted(domain_xml, action.address, action.alias, action.policy)
        case RemoveFromConfig():
            if document.domain(None, domain_xml).unmanaged(action.address):
                return domain_xml  # another tool added this hostdev since the plan was made
            return document.without_hostdev(domain_xml, action.address)
        case SwitchOn():
            return document.with_features(domain_xml, action.features)
        case SwitchOff():
            return document.without_features(domain_xml, action.features, action.were_off)
        case _:
            return domain_xml


@dataclass(frozen=True, slots=True)
class AttachHostdev:
    """Add this `<hostdev>`."""

    hostdev: str


@dataclass(frozen=True, slots=True)
class DetachHostdev:
    """Remove this `<hostdev>`."""

    hostdev: str


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """Set the element in the domain's metadata, without its namespace as libvirt wants it; None removes it."""

    element: str | None


IncrementalEdit = AttachHostdev | DetachHostdev | SetMetadata


def incremental_edits(before: str, after: str) -> tuple[IncrementalEdit, ...] | None:
    """Return the changes from one XML to the other; None if only a definition of the whole leads there.

    The metadata is added before its hostdev and removed after, so an interruption leaves metadata without a hostdev: as
    if another tool had removed the hostdev. Metadata that stays is set again at the end: that has an event, of which
    other tools look again, and libvirt's Xen driver has none for hostdevs (src/libxl/libxl_driver.c).
    """
    old, new = parsed(before), parsed(after)
    was, is_now = _hostdevs(old), _hostdevs(new)
    if any(was[key] != is_now[key] for key in was.keys() & is_now.keys()):
        return None
    owned, to_note = _note(old), _note(new)
    if _rest(old) != _rest(new):
        return None
    announced = owned == to_note and to_note is not None and was.keys() != is_now.keys()
    return (
        *(DetachHostdev(element) for key, element in was.items() if key not in is_now),
        *([SetMetadata(to_note)] if owned != to_note else []),
        *(AttachHostdev(element) for key, element in is_now.items() if key not in was),
        *([SetMetadata(to_note)] if announced else []),
    )


def _hostdevs(domain: etree._Element) -> dict[bytes, str]:
    """Return the text of each PCI hostdev, by its source."""
    return {
        _canonical(source): _text(element)
        for element in domain.iterfind(document.HOSTDEV)
        if (source := element.find("./source/address")) is not None
    }


def _note(domain: etree._Element) -> str | None:
    found = domain.find(f"./metadata/{metadata.ROOT}")
    if found is None:
        return None
    plain = deepcopy(found)
    for element in plain.iter(etree.Element):
        element.tag = etree.QName(element).localname
    etree.cleanup_namespaces(plain)
    return _text(plain)


def _rest(domain: etree._Element) -> bytes:
    """Return everything else; an empty `<metadata>` counts as none."""
    rest = deepcopy(domain)
    for path in (document.HOSTDEV, f"./metadata/{metadata.ROOT}"):
        for element in rest.findall(path):
            parent = element.getparent()
            if parent is not None:
                _drop(parent, element)
    left = rest.find("./metadata")
    if left is not None and len(left) == 0:
        _drop(rest, left)
    return _canonical(rest)


def _drop(parent: etree._Element, element: etree._Element) -> None:
    """Remove an element and keep the text after it."""
    before, text = element.getprevious(), element.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + text
    else:
        parent.text = (parent.text or "") + text
    element.tail = None
    parent.remove(element)


def _text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode", with_tail=False)


def _canonical(element: etree._Element) -> bytes:
    """Return the element without white space between its children."""
    bare = deepcopy(element)
    for one in bare.iter():
        one.text = (one.text or "").strip() or None
        one.tail = (one.tail or "").strip() or None
    return etree.tostring(bare, method="c14n")
