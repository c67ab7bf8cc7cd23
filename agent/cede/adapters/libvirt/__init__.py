"""Adapters to libvirt's Xen driver."""
