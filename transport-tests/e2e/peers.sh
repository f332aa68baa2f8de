#!/usr/bin/env bash
# Two clients of one relay behind every pair of NAT kinds exchange datagrams, by their bind tunnels alone, and over a connection that
# leaves the relay where theory allows it. Prints a table; fails where a pair is not direct or relayed as theory says, where more than
# one datagram in a thousand is lost, and where the loss of a direct path costs more than a second.
#
#   transport-tests/e2e/peers.sh             # 100,000 datagrams there and back for each pair and way
#   transport-tests/e2e/peers.sh --quick     # 3,000, and 10,000 where a direct path is looked for
#   transport-tests/e2e/peers.sh --count N
#
# PEERS and ADIT name the programs (target/release/peers, target/release/adit). Needs root, iproute2, nftables, conntrack and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
E2E=${E2E:-adit-peers}
. transport-tests/e2e/nat.sh
ADIT=${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}
PEERS=${PEERS:-${CARGO_TARGET_DIR:-target}/release/peers}
REPORT="python3 transport-tests/e2e/peers_report.py"
COUNT=100000 DIRECT=100000 LONGER=100000
while [ $# -gt 0 ]; do
    case $1 in
        --quick) COUNT=3000 DIRECT=10000 LONGER=50000 ;;
        --count) COUNT=$2 DIRECT=$2; shift ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done

# What the two say in $WORK/near and $WORK/far.
exchange() { # kind-a kind-b count arguments...
    local code=0 far count=$3 a=$1 b=$2
    shift 3
    rm -rf "$WORK/meet"
    mkdir "$WORK/meet"
    nat_kind $NA "$a"
    nat_kind $NB "$b"
    in_ns $CB "$PEERS" far "$WORK/relay/relay.bundle" --meet "$WORK/meet" "$@" >"$WORK/far" 2>&1 &
    far=$!
    in_ns $CA "$PEERS" near "$WORK/relay/relay.bundle" --meet "$WORK/meet" --count "$count" "$@" >"$WORK/near" 2>&1 || code=$?
    # It would wait for more.
    kill $far 2>/dev/null || true
    wait $far 2>/dev/null || true
    [ $code = 0 ] || cat "$WORK/near" "$WORK/far"
    return $code
}

# Once $WORK/near says so.
after() { # pattern command...
    wait_for 10 "$1" "$WORK/near" || return
    shift
    sleep 0.5
    "$@"
}

relayed() { exchange "$1" "$2" "$COUNT" && $REPORT row "$1" "$2" "$WORK/near" --route relayed >>"$WORK/relayed"; }

direct() {
    local theory
    theory=$(nat_theory "$1" "$2")
    exchange "$1" "$2" "$DIRECT" --direct && $REPORT row "$1" "$2" "$WORK/near" --route "$theory" >>"$WORK/direct"
}

# The outer port of A's connection to the relay.
outer_port() { in_ns $NA conntrack -L -p udp --orig-port-dst 4433 2>/dev/null | sed -n 's/.*dport=\([0-9]*\).*/\1/p' | tail -n 1; }

forget_both() {
    local before
    before=$(outer_port)
    nat_forget $NA
    nat_forget $NB
    sleep 0.2
    [ -n "$before" ] && [ "$(outer_port)" != "$before" ] || { echo "the outer port is $before as before"; return 1; }
}

# Mappings are lost in the middle: the tunnels go on from other ports.
forgotten() {
    local beside
    : >"$WORK/near"
    after '"event":"first"' forget_both &
    beside=$!
    exchange symmetric symmetric "$LONGER" --seconds 3 && wait $beside && $REPORT gap "$WORK/near" --route relayed --most-lost 200 >"$WORK/gaps"
}

# A direct path dies without a word, and data goes by the relay.
cut_off() {
    local code=0 beside
    : >"$WORK/near"
    after '"event":"direct"' nat_cut &
    beside=$!
    exchange port-restricted port-restricted "$LONGER" --seconds 3 --direct && wait $beside || code=$?
    nat_heal
    [ $code = 0 ] && $REPORT gap "$WORK/near" --route relayed --most-ms 1000 >>"$WORK/gaps"
}

nat_needs
nat_up
nat_relay "$ADIT"
for a in $KINDS; do
    for b in $KINDS; do
        check "$a, $b: $COUNT datagrams there and back by the relay" relayed "$a" "$b"
        check "$a, $b: $DIRECT where they find their way: $(nat_theory "$a" "$b")" direct "$a" "$b"
    done
done
check "symmetric, symmetric, and both forget: $LONGER datagrams there and back" forgotten
check "a direct path is cut: $LONGER datagrams there and back" cut_off
for way in relayed direct; do
    echo "--- $way"
    $REPORT head
    cat "$WORK/$way" 2>/dev/null || true
done
echo "---"
cat "$WORK/gaps" 2>/dev/null || true
if [ "$FAILED" != 0 ]; then echo "--- relay"; tail -n 30 "$WORK/relay.log"; fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
