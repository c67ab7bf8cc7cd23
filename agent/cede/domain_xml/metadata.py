"""cede's notes in a domain's metadata: which devices it put there, and for which policy.

A hostdev's alias says *that* it is cede's, the note says *whose*: what another policy wants is not cleaned up by this
one. The element is in a namespace of its own, so libvirt keeps it untouched. Shape: schemas/metadata.rng; source:
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
    """The notes in a domain's tree; one that can't be read is no note."""
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
    """Note it in a domain's tree instead of what was noted on that address before.

    Elements around it that are missing are made. Raises PermanentError for what XML can't hold.
    """
    remove(domain, ownership.address)
    metadata = domain.find("./metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        # libvirt writes it after the domain's name and titles; in front is as good to read
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
            f"{ownership.policy!r} can't be noted in XML: {error}",
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
    """Remove the notes on `address`, and the elements around them that are empty then; False if there were none."""
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
