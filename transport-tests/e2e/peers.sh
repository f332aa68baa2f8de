#!/usr/bin/env bash
# Two clients of one relay exchange datagrams over bind tunnels, behind every pair of NAT kinds; prints a table.
#
#   transport-tests/e2e/peers.sh             # 100,000 datagrams there and back for each pair
#   transport-tests/e2e/peers.sh --quick     # 5,000
#   transport-tests/e2e/peers.sh --count N
#
# PEERS and ADIT name the programs (target/release/peers, target/release/adit). Needs root, iproute2, nftables, conntrack and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
E2E=${E2E:-adit-peers}
. transport-tests/e2e/nat.sh
ADIT=${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}
PEERS=${PEERS:-${CARGO_TARGET_DIR:-target}/release/peers}
COUNT=100000
while [ $# -gt 0 ]; do
    case $1 in
        --quick) COUNT=5000 ;;
        --count) COUNT=$2; shift ;;
        *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done

# One row of the table in $WORK/row; fails when more than one in a thousand is lost.
exchange() { # kind-a kind-b [command that runs half a second after the start]
    local code=0 far beside
    rm -rf "$WORK/meet"
    mkdir "$WORK/meet"
    nat_kind $NA "$1"
    nat_kind $NB "$2"
    in_ns $CB "$PEERS" far "$WORK/relay/relay.bundle" --meet "$WORK/meet" >"$WORK/far" 2>&1 &
    far=$!
    (sleep 0.5; ${3:-true}) &
    beside=$!
    in_ns $CA "$PEERS" near "$WORK/relay/relay.bundle" --meet "$WORK/meet" --count "$COUNT" >"$WORK/near" 2>&1 || code=$?
    wait $beside
    # It would wait for more.
    kill $far 2>/dev/null || true
    wait $far 2>/dev/null || true
    if [ $code != 0 ]; then cat "$WORK/near" "$WORK/far"; return $code; fi
    python3 - "$1" "$2" "$WORK/near" >"$WORK/row" <<'ROW'
import json, sys

events = {event["event"]: event for event in map(json.loads, open(sys.argv[3]))}
bound, first, done = events["bound"], events["first"], events["done"]
trip = done["rtt_ms"]
print(f"| {sys.argv[1]} | {sys.argv[2]} | relayed | {bound['ready_ms']:.0f} ms | {first['ms']:.1f} ms | {done['lost']} of {done['sent']} "
      f"| {trip['p50']:.2f} / {trip['p99']:.2f} ms | {done['sent'] / done['seconds'] / 1000:.1f} |")
sys.exit(done["lost"] * 1000 > done["sent"])
ROW
}

nat_needs
nat_up
nat_relay "$ADIT"
for a in $KINDS; do
    for b in $KINDS; do
        check "$a, $b: $COUNT datagrams there and back" exchange "$a" "$b"
        cat "$WORK/row" >>"$WORK/table" 2>/dev/null || true
        rm -f "$WORK/row"
    done
done
# Mappings are lost in the middle: the tunnels go on from other ports.
COUNT=$((COUNT > 50000 ? COUNT : 50000))
forget() { nat_forget $NA; nat_forget $NB; }
check "symmetric, symmetric, and both forget: $COUNT datagrams there and back" exchange symmetric symmetric forget
sed -n 's/^/        /p' "$WORK/near"
echo "| A | B | route | tunnel ready | first datagram | lost | round trip p50 / p99 | thousands a second |"
echo "|---|---|---|---|---|---|---|---|"
cat "$WORK/table"
if [ "$FAILED" != 0 ]; then echo "--- relay"; tail -n 30 "$WORK/relay.log"; fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
