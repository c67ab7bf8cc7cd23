"""A policy imported from what others wrote: xl's files, libvirt's domains, xen-pciback's `hide=`."""
