#!/bin/bash
# each.sh SCRIPT DOMAIN ADDRESS DRIVER [DOMAIN ADDRESS DRIVER]...: one after another.
set -euo pipefail
script=$1
shift
while (($#)); do
    bash "${0%/*}/$script" "$1" "$2" "$3"
    shift 3
done
