"""Other formats -> a proposed policy: xl's files, libvirt's domains, xen-pciback's `hide=`."""
