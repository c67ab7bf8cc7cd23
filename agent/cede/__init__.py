"""cede: give PCI devices to Xen guests through libvirt, and take them back.

The data goes one way, and the packages are named in its order:
policy and inventory -> resolve -> plan -> execute -> verify -> assess. See contrib/docs/architecture.md.
"""

__version__ = "0.1.0"
