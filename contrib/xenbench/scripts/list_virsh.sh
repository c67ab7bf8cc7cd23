#!/bin/bash
# list_virsh.sh: what virsh shows of domains and devices.
. "${0%/*}/common.sh"
virsh list --all
virsh nodedev-list
