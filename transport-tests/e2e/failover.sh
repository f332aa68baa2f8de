#!/usr/bin/env bash
# A client with two links to its relay, of which one falls silent without a word: what came through, and how long nothing did.
#
#   client -- 10.91.1.0/24 -- nat -- 10.91.2.0/24 -- relay 10.91.2.1 -- 10.91.3.0/24 -- target
#      \------------------ 10.91.4.0/24 --------------/
#
# Run by run.sh's side; needs what run.sh needs. Links take well under a millisecond: there is no delay to emulate here.
set -euo pipefail
cd "$(dirname "$0")/../.."
E2E=adit-failover
. transport-tests/e2e/lib.sh
ADIT=${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}
GAP="python3 transport-tests/e2e/gap_probe.py"

for tool in ip nft python3; do
    command -v "$tool" >/dev/null || { echo "failover: $tool is missing; these tests are never skipped" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "failover: needs root for network namespaces" >&2; exit 1; }
down; WORK=$(mktemp -d); trap down EXIT
up
FIRST=$(ip -n $C -o addr show | awk '/10\.91\.1\.2/ {print $2}')
link $C 10.91.4.2/24 $R 10.91.4.1/24
# The system prefers the first link; only what names the second one's address leaves by it.
ip -n $C route add default via 10.91.4.1 metric 200

relay() {
    "$ADIT" init relay --dir "$WORK/relay" --endpoint 10.91.2.1:4433 >/dev/null
    sed -i 's|^allow = \[\]|allow = ["10.91.3.0/24"]|' "$WORK/relay/relay.toml"
    ip netns exec $R "$ADIT" relay --config "$WORK/relay/relay.toml" --log info 2>"$WORK/relay.log" &
    wait_for 10 READY "$WORK/relay.log"
}

client() { # extra arguments
    ADIT_STATE_DIR="$WORK/state" ip netns exec $C "$ADIT" connect "$WORK/relay/relay.bundle" --json \
        --forward-tcp 127.0.0.1:8080=10.91.3.2:9000 "$@" --log info >"$WORK/events" 2>"$WORK/client.log" &
    CLIENT=$!
    wait_for 10 '"event":"connected"' "$WORK/events"
    sleep 1
}

stop_client() {
    kill "$CLIENT" 2>/dev/null || true
    wait "$CLIENT" 2>/dev/null || true
}

# The first link carries nothing from now on, and nobody is told.
cut() {
    in_ns $N nft -f - <<NFT
table inet cut
delete table inet cut
table inet cut {
    chain forward {
        type filter hook forward priority 0;
        drop
    }
}
NFT
}

heal() {
    in_ns $N nft delete table inet cut 2>/dev/null || true
    ip -n $C link set "$FIRST" up
    ip -n $C route replace default via 10.91.1.1
}

watch_over_cut() { # most-ms
    (sleep 2; cut) &
    in_ns $C $GAP watch 127.0.0.1 8080 --seconds 6 --from 1.8 --to 3.2 --most-ms "$1"
}

# What else the machine does adds silence and takes none: one of three runs has to show what the connection can do.
least_of_three() { # client arguments -- command...
    local arguments=() run
    while [ "$1" != -- ]; do arguments+=("$1"); shift; done
    shift
    for run in 1 2 3; do
        client "${arguments[@]}"
        if "$@"; then return 0; fi
        [ "$run" = 3 ] || { stop_client; heal; }
    done
    return 1
}

# The first link is taken down as an unplugged cable would: the system knows, and so does whoever asks it.
watch_over_unplug() { # most-ms
    (sleep 2; ip -n $C link set "$FIRST" down) &
    in_ns $C $GAP watch 127.0.0.1 8080 --seconds 6 --from 1.8 --to 3.2 --most-ms "$1"
}

migrated() { wait_for 2 '"event":"migrated"' "$WORK/events"; }
never_closed() { ! grep -q '"event":"closed"' "$WORK/events"; }

in_ns $T $GAP serve 10.91.3.2 9000 &
relay

check "without a standby: a cut link costs less than a second" least_of_three -- watch_over_cut 1000
cat "$WORK/check.log"
check "the client says migrated" migrated
check "the connection lived on" never_closed
stop_client
heal

check "with a standby: a cut link costs at most 50 ms" least_of_three --standby 10.91.4.2 -- watch_over_cut 50
cat "$WORK/check.log"
check "the client says migrated" migrated
check "the connection lived on" never_closed
stop_client
heal

check "an unplugged link costs less than a second" least_of_three -- watch_over_unplug 1000
cat "$WORK/check.log"
check "the connection lived on" never_closed
stop_client

if [ "$FAILED" != 0 ]; then
    echo "--- relay"; tail -n 40 "$WORK/relay.log"
    echo "--- client"; tail -n 60 "$WORK/client.log"; tail -n 5 "$WORK/events"
fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
