#!/usr/bin/env bash
# One flow of ours beside one of the kernel's TCP behind a tbf bottleneck, and each of ours alone: shares and queueing delay.
#
#   client 10.91.1.2 -- router: tbf towards the relay, DELAY on the way back -- relay 10.91.2.1
#
#   fairness.sh            what .ci/run does: BBR beside CUBIC and BBR, a queue of two bandwidth-delay products, 15 s each, at
#                          10 Mbit/s and 100 ms: a tbf that is woken 10 ms late loses nothing there
#   fairness.sh --all      every pair of BBR and CUBIC, queues of 1, 2 and 4, 30 s each, at 40 Mbit/s and 30 ms
#
# Then an echo beside bulk of ours, BBR at 40 Mbit/s: it may take three times as long as alone (the 99th of 100 of each).
#
# Prints a line and a JSON object for each; fails when one side keeps less than LEAST (0.25) of what crossed, or the link is idle.
# Needs root, iproute2, nftables, iperf3, python3, TUN, and release builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
E2E=adit-fair
. transport-tests/e2e/lib.sh
ADIT=${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}
LEAST=${LEAST:-0.25}
if [ "${1:-}" = --all ]; then
    OURS="bbr cubic" THEIRS="cubic bbr" QUEUES="1 2 4" TIME=30 RATE=${RATE:-40} DELAY=${DELAY:-30}
else
    OURS="bbr" THEIRS="cubic bbr" QUEUES="2" TIME=15 RATE=${RATE:-10} DELAY=${DELAY:-100}
fi

for tool in ip tc nft iperf3 python3; do
    command -v "$tool" >/dev/null || { echo "fairness: $tool is missing; these tests are never skipped" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "fairness: needs root for network namespaces" >&2; exit 1; }
down; WORK=$(mktemp -d); trap down EXIT
up
in_ns $N nft delete table ip nat
ip -n $R route add 10.91.1.0/24 via 10.91.2.2
BOTTLENECK=$(ip -n $N -o addr show | awk '/10\.91\.2\.2/ {print $2}')

# What comes back from the relay goes through the delay line.
in_ns $N sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf."$BOTTLENECK".rp_filter=0
in_ns $N python3 transport-tests/e2e/delay_line.py held freed "$DELAY" >"$WORK/delay" &
wait_for 5 READY "$WORK/delay"
ip -n $N route add default dev held table 100
ip -n $N rule add iif "$BOTTLENECK" lookup 100
in_ns $N nft -f - <<NFT
table inet shares {
    counter ours {}
    counter theirs {}
    chain forward {
        type filter hook forward priority 0;
        oifname "$BOTTLENECK" ip protocol udp counter name ours
        oifname "$BOTTLENECK" ip protocol tcp counter name theirs
    }
}
NFT

queue() { # bandwidth-delay products
    local bytes=$((RATE * DELAY * 125 * $1))
    tc -n $N qdisc replace dev "$BOTTLENECK" root tbf rate "${RATE}mbit" burst 16k limit "$bytes"
}

in_ns $R "$ADIT" bench server --dir "$WORK/relay" --listen 10.91.2.1:4433 >"$WORK/server.json" 2>"$WORK/server.log" &
wait_for 10 READY "$WORK/server.log"
in_ns $R iperf3 -s -B 10.91.2.1 >/dev/null 2>&1 &
sleep 0.5

ours() { # congestion control
    in_ns $C "$ADIT" bench client "$WORK/relay/relay.bundle" --workload bulk --seconds "$TIME" --cc "$1" --json
}
theirs() { in_ns $C iperf3 -c 10.91.2.1 -t "$TIME" -C "$1"; }

judge() { # report least-share
    python3 - "$1" "$2" <<'PY'
import json, sys
report, least = json.load(open(sys.argv[1])), float(sys.argv[2])
share = report["ours_share"]
assert report["used"] > 0.85, "the link was idle"
assert least == 0 or least <= share <= 1 - least, f"shares {share} and {1 - share:.3f}"
PY
}

beside() { # ours theirs queue; "none": alone
    queue "$3"
    local running=() pid
    [ "$1" = none ] || { ours "$1" >"$WORK/ours" 2>&1 & running+=($!); }
    [ "$2" = none ] || { theirs "$2" >"$WORK/theirs" 2>&1 & running+=($!); }
    in_ns $N python3 transport-tests/e2e/bottleneck_probe.py "$BOTTLENECK" "$RATE" 4 $((TIME - 1)) >"$WORK/shares"
    for pid in "${running[@]}"; do wait "$pid" || { cat "$WORK/ours" "$WORK/theirs"; return 1; }; done
}

# A machine that pauses holds the delay line and one of the two back: one of three runs has to show what they do.
share() { # ours theirs queue least
    local run
    for run in 1 2 3; do
        beside "$1" "$2" "$3" || return 1
        cat "$WORK/shares"
        if judge "$WORK/shares" "$4"; then return 0; fi
    done
    return 1
}

round() { # ours theirs queue least
    check "${1/none/nobody} beside ${2/none/nobody}, $RATE Mbit/s, $DELAY ms, queue of $3 products: each keeps $4" share "$@"
    sed 's/^/        /' "$WORK/shares"
}

# A machine that pauses holds both ends back: one of three runs has to show what the scheduler does.
echo_beside_bulk() {
    local run
    for run in 1 2 3; do
        in_ns $C "$ADIT" bench client "$WORK/relay/relay.bundle" --workload mixed --seconds "$TIME" --json >"$WORK/mixed" || return 1
        if python3 - "$WORK/mixed" "$RATE" <<'PY'; then return 0; fi
import json, sys
run, rate = json.load(open(sys.argv[1])), int(sys.argv[2])
alone, beside = run["unloaded_latency_us"]["p99"] / 1000, run["latency_us"]["p99"] / 1000
# A datagram of 1,200 bytes every millisecond takes its share.
used = (run["gbit_per_s"] * 1000 + 9.6) / rate
print(f"echo alone {alone:.1f} ms, beside bulk {beside:.1f} ms, {used:.2f} of the link in use")
sys.exit(not (used > 0.85 and beside <= 3 * alone))
PY
    done
    return 1
}

for queue in $QUEUES; do
    for own in $OURS; do
        round "$own" none "$queue" 0
        for other in $THEIRS; do round "$own" "$other" "$queue" "$LEAST"; done
    done
done
RATE=40
queue 2
check "an echo beside bulk takes three times as long at most (BBR: CUBIC fills any queue)" echo_beside_bulk
sed 's/^/        /' "$WORK/check.log"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
