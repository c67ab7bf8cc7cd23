"""Ownership metadata in a domain's XML: which devices cede added, and for which policy.

A hostdev's alias says that cede added it, the metadata for which policy: one policy does not remove the devices of
another. The element is in a namespace of its own, so libvirt keeps it untouched. Shape: schemas/metadata.rng; source:
https://libvirt.org/formatdomain.html#general-metadata
"""

from __future__ import annotations

from lxml import etree

from cede.errors import PermanentError
from cede.model.domain import Ownership
from cede.model.pci import Address

NAMESPACE = "urn:cede:assignments:1"
PREFIX = "cede"
ROOT = f"{{{NAMESPACE}}}assignments"
_DEVICE = f"{{{NAMESPACE}}}device"


def read(domain: etree._Element) -> tuple[Ownership, ...]:
    """Return the ownership metadata of a domain; skips what can't be parsed."""
    ownerships = (_mark(element) for element in domain.iterfind(f"./metadata/{ROOT}/{_DEVICE}"))
    return tuple(ownership for ownership in ownerships if ownership is not None)


def _mark(element: etree._Element) -> Ownership | None:
    try:
        address = Address.parse(element.get("address", ""))
    except ValueError:
        return None
    name = element.get("name")
    return Ownership(name=name, address=address, policy=element.get("policy", "")) if name else None


def add(domain: etree._Element, ownership: Ownership) -> None:
    """Add ownership metadata to a domain, replacing any of the same address.

    Makes missing parent elements. Raises PermanentError for text that XML can't hold.
    """
    remove(domain, ownership.address)
    metadata = domain.find("./metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        # libvirt itself puts metadata after name and title; the position does not matter
        metadata.tail = domain.text
        domain.insert(0, metadata)
    root = metadata.find(f"./{ROOT}")
    if root is None:
        root = etree.Element(ROOT, nsmap={PREFIX: NAMESPACE})
        _append(metadata, root)
    try:
        device = etree.Element(
            _DEVICE, name=ownership.name, address=str(ownership.address), policy=ownership.policy
        )
    except ValueError as error:
        raise PermanentError(
            f"XML can't hold the policy's path {ownership.policy!r}: {error}",
            name="unprintable",
            remedy="give the policy a path without control characters",
        ) from error
    _append(root, device)


def _append(parent: etree._Element, element: etree._Element) -> None:
    """Append an element so that `drop` leaves the white space as it was."""
    if len(parent):
        element.tail = parent[-1].tail
    else:
        element.tail = parent.text
    parent.append(element)


def remove(domain: etree._Element, address: Address) -> bool:
    """Remove the metadata of `address`, and parents that become empty; False if there was none."""
    elements = [
        element
        for element in domain.iterfind(f"./metadata/{ROOT}/{_DEVICE}")
        if (ownership := _mark(element)) is not None and ownership.address == address
    ]
    for element in elements:
        _drop_with_what_is_empty_then(element, domain)
    return bool(elements)


def _drop_with_what_is_empty_then(element: etree._Element, top: etree._Element) -> None:
    parent = element.getparent()
    if parent is None:
        return
    drop(parent, element)
    if parent is not top and not len(parent):
        _drop_with_what_is_empty_then(parent, top)


def drop(parent: etree._Element, element: etree._Element) -> None:
    """Remove an element and leave the white space as if it had never been there."""
    before = element.getprevious()
    if before is not None:
        before.tail = element.tail
    else:
        parent.text = element.tail
    element.tail = None
    parent.remove(element)
