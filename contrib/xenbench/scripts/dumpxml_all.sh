#!/bin/bash
# dumpxml_all.sh: the XML of every domain, as one would look whether anything is to be done.
. "${0%/*}/common.sh"
for domain in $(virsh list --all --name); do
    virsh dumpxml "$domain" >/dev/null
done
