"""Ownership metadata in a domain's XML: which devices cede added, and for which policy.

A hostdev's alias says that cede added it, the metadata for which policy: one policy does not remove the devices of
another. The element is in a namespace of its own, so libvirt keeps it untouched. Shape: schemas/metadata.rng; source:
https://libvirt.org/formatdomain.html#general-metadata
"""

from __future__ import annotations

from lxml import etree

from cede.domain_xml.xml_text import XmlText, attribute
from cede.errors import PermanentError
from cede.model.domain import Ownership
from cede.model.pci import Address

NAMESPACE = "urn:cede:assignments:1"
PREFIX = "cede"
ROOT = f"{{{NAMESPACE}}}assignments"
_DEVICE = f"{{{NAMESPACE}}}device"
# virDomainDefFormatInternalSetRootName, libvirt's src/conf/domain_conf.c
_BEFORE_METADATA = ("name", "uuid", "genid", "title", "description")


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


def added(domain_xml: str, ownership: Ownership) -> str:
    """Add ownership metadata to a domain, replacing any of the same address.

    Makes missing parent elements. Raises PermanentError for text that XML can't hold.
    """
    text = XmlText(removed(domain_xml, ownership.address))
    root = text.root.find(f"./metadata/{ROOT}")
    prefix = PREFIX if root is None else root.prefix
    colon = f"{prefix}:" if prefix else ""
    try:
        policy = attribute(ownership.policy)
    except ValueError as error:
        raise PermanentError(
            f"XML can't hold the policy's path {ownership.policy!r}: {error}",
            name="unprintable",
            remedy="give the policy a path without control characters",
        ) from error
    device = (
        f'<{colon}device name="{attribute(ownership.name)}" address="{ownership.address}" '
        f'policy="{policy}"/>'
    )
    if root is not None:
        return text.with_child(root, device)
    made = f'{PREFIX}:assignments xmlns:{PREFIX}="{NAMESPACE}"'
    return text.with_descendant(("metadata", made), device, after=_BEFORE_METADATA)


def removed(domain_xml: str, address: Address) -> str:
    """Remove the metadata of `address`, and parents that came with it; return the XML unchanged if there is none."""
    while True:
        text = XmlText(domain_xml)
        found = (
            element
            for element in text.root.iterfind(f"./metadata/{ROOT}/{_DEVICE}")
            if (ownership := _mark(element)) is not None and ownership.address == address
        )
        element = next(found, None)
        if element is None:
            return domain_xml
        domain_xml = text.without(element)
