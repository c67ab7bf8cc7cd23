"""Adapters to Xen itself: xenstore, the hypervisor, xl."""
