"""cede: PCI devices for Xen guests, given and taken back with proof.

The data's way is one street, and the modules are named in its order:
policy -> observe (inventory) -> plan -> execute -> verify -> status.
"""

__version__ = "0.1.0"
