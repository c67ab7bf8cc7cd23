#!/bin/bash
# behind_its_back.sh DOMAIN ADDRESS DRIVER NAME WANTED NOTHING: how long until the running agent has put back, and verified, what `virsh
# detach-device` takes. WANTED and NOTHING are policies for /etc/cede/policy.yaml. Prints a line of JSON.
. "${0%/*}/common.sh"
domain=$1 address=$2 driver=$3 name=$4 wanted=$5 nothing=$6
seconds=200

exec 4< <(exec journalctl -q -f --no-tail --since "@$EPOCHSECONDS" -u cede -o short-unix)
journal=$!
write_hostdev "$address"
trap 'kill "$journal"; rm -f "$hostdev"' EXIT

# prints when the agent said so
await() {
    local line
    while IFS= read -r -t "$seconds" -u 4 line; do
        [[ $line == *"$1"* ]] && echo "${line%% *}" && return 0
    done
    die "the agent did not say: $1"
}

cp "$wanted" /etc/cede/policy.yaml
await "$name -> $domain: in sync" >/dev/null
virsh detach-device "$domain" "$hostdev" --live >/dev/null
taken=$EPOCHREALTIME
verified=$(await "$name -> $domain: in sync")
cp "$nothing" /etc/cede/policy.yaml
until_so has_driver "$address" "$driver" || die "dom0's driver of $address is not $driver"
awk -v from="$taken" -v to="$verified" 'BEGIN {
    printf "{\"work\": \"behind its back to verified again\", \"by\": \"cede run\", \"seconds\": %.3f}\n", to - from }'
