"""libvirt's domain XML <-> values, without I/O."""
