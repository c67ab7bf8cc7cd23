"""What libvirt tells of storage: on which devices domains' volumes are, and what active storage pools are made of.

Sources: https://libvirt.org/html/libvirt-libvirt-storage.html, src/storage/storage_driver.c.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libvirt

from cede.adapters.libvirt.libvirt_errors import NO_POOL, NO_SUPPORT, classify
from cede.domain_xml import sources
from cede.errors import UnreachableError

if TYPE_CHECKING:
    from cede.errors import CedeError
    from cede.model.domain import Domain

_DAEMON, _NO_SOCKET = "virtstoraged", "no such file or directory"


def with_volumes(connection: libvirt.virConnect, domain: Domain) -> Domain:
    """Return the domain with the devices and files that its volumes are, as far as libvirt finds these.

    Of a pool that isn't active its own devices are told, which may not be all. Raises UnreachableError if libvirt
    doesn't answer at all, PermanentError if a pool's XML is malformed.
    """
    paths: list[str] = []
    unknown: list[str] = []
    for name in domain.unknown_volumes:
        pool_name, _, volume = name.partition("/")
        try:
            pool = connection.storagePoolLookupByName(pool_name)
            try:
                paths.append(pool.storageVolLookupByName(volume).path())
            except libvirt.libvirtError:
                unknown.append(name)
                paths += sources.pool_paths(pool.XMLDesc())
        except libvirt.libvirtError as error:
            failed = _failure(error)
            if isinstance(failed, UnreachableError):
                raise failed from error
            unknown.append(name)
    return replace(
        domain,
        host_disks=tuple(dict.fromkeys((*domain.host_disks, *paths))),
        unknown_volumes=tuple(dict.fromkeys(unknown)),
    )


def active_pools(connection: libvirt.virConnect) -> dict[str, tuple[str, ...]]:
    """Return the devices that each active storage pool is made of, by its name; none without libvirt's storage driver.

    Raises UnreachableError if libvirt doesn't answer, PermanentError if a pool can't be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    try:
        pools = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    except libvirt.libvirtError as error:
        said = str(error).lower()
        if error.get_error_code() == NO_SUPPORT or (_DAEMON in said and _NO_SOCKET in said):
            return found  # it isn't installed
        raise _failure(error) from error
    for pool in pools:
        try:
            name, devices = sources.pool_devices(pool.XMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() == NO_POOL:
                continue  # it was stopped meanwhile
            raise _failure(error) from error
        if devices:
            found[name or pool.name()] = devices
    return found


def _failure(error: libvirt.libvirtError) -> CedeError:
    return classify(error.get_error_code() or 0, error.get_error_message() or str(error))
