"""What libvirt makes of a domain's persistent XML when it is asked for one change; the model of it."""

from __future__ import annotations

from lxml import etree

from cede.domain_xml import document
from cede.domain_xml import metadata as domain_xml_metadata
from cede.domain_xml.edits import AttachHostdev, DetachHostdev, IncrementalEdit, SetMetadata
from cede.domain_xml.xml_text import parsed
from cede.errors import WorldMovedError


def attached(domain_xml: str, hostdev: str) -> str:
    """With the hostdev as the last of the devices."""
    domain, new = parsed(domain_xml), etree.fromstring(hostdev)
    if _same(domain, new):
        raise WorldMovedError("target pci device already exists")
    devices = domain.find("./devices")
    assert devices is not None
    devices.append(new)
    return _text(domain)


def detached(domain_xml: str, hostdev: str) -> str:
    """Without the hostdev that has the same source."""
    domain = parsed(domain_xml)
    found = _same(domain, etree.fromstring(hostdev))
    if not found:
        raise WorldMovedError("device not found")
    devices = domain.find("./devices")
    assert devices is not None
    for element in found:
        devices.remove(element)
    return _text(domain)


def owned(domain_xml: str, element: str | None) -> str:
    """With the element of cede's namespace in the metadata, instead of the one before."""
    domain = parsed(domain_xml)
    metadata = domain.find("./metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        domain.insert(0, metadata)
    for old in metadata.findall(f"./{domain_xml_metadata.ROOT}"):
        metadata.remove(old)
    if element is not None:
        assert "xmlns" not in element, "libvirt gives it its namespace"
        metadata.append(_in_namespace(etree.fromstring(element)))
    if len(metadata) == 0:
        domain.remove(metadata)
    return _text(domain)


def changed(domain_xml: str, change: IncrementalEdit) -> str:
    """After that change."""
    match change:
        case AttachHostdev():
            return attached(domain_xml, change.hostdev)
        case DetachHostdev():
            return detached(domain_xml, change.hostdev)
        case SetMetadata():
            return owned(domain_xml, change.element)


def _same(domain: etree._Element, hostdev: etree._Element) -> list[etree._Element]:
    wanted = hostdev.find("./source/address")
    assert wanted is not None
    return [
        element
        for element in domain.iterfind(document.HOSTDEV)
        if (source := element.find("./source/address")) is not None
        and sorted(source.items()) == sorted(wanted.items())
    ]


def _in_namespace(element: etree._Element) -> etree._Element:
    made = etree.Element(
        f"{{{domain_xml_metadata.NAMESPACE}}}{element.tag}",
        nsmap={domain_xml_metadata.PREFIX: domain_xml_metadata.NAMESPACE},
    )
    for name, value in element.items():
        made.set(name, value)
    for child in element:
        made.append(_in_namespace(child))
    return made


def _text(domain: etree._Element) -> str:
    return etree.tostring(domain, encoding="unicode")
