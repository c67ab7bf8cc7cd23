"""The lab: a nested Xen host with libvirt, guests and PCI devices, without any hardware.

Nothing here is part of cede itself. The lab exists so that everything is built and judged on a
real hypervisor with the real libvirt Xen driver. It uses the standard library only: it has to run
on a machine on which nothing is installed yet.

Read `machine` first: it is the lab as data. `lab` is the way in for tests::

    from xenlab.lab import Lab

    lab = Lab(release="trixie")
    lab.up()
    print(lab.exec(["lspci", "-nn"]).stdout)
    lab.reset()
"""
