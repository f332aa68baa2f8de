#!/usr/bin/env bash
# What a flood costs those who use the relay meanwhile. Namespaces: client and flooder, each with a veth pair to the relay;
# all processes share two cores. The flooder sends, as fast as sendmmsg goes and without GSO,
#   random   bytes without meaning, 64 to 1200 a datagram,
#   replay   first flights that came before,
#   hello    first flights of clients of their own, from four million addresses it never listens at.
# For each: goodput of a tunnel under the flood, divided by its goodput under the same flood sent to a closed port of the
# relay (median of ROUNDS pairs); growth of the relay's memory; share of honest handshakes that complete under it.
# Prints a table on stderr and JSON on stdout. Needs root, iproute2, python3, and release builds of `adit` and `flood`.
set -euo pipefail
cd "$(dirname "$0")/../.."
BUILD=${CARGO_TARGET_DIR:-target}/release
ADIT=${ADIT:-$BUILD/adit} FLOOD=${FLOOD:-$BUILD/flood}
SECONDS_EACH=${SECONDS_EACH:-5} ROUNDS=${ROUNDS:-3} HONEST=${HONEST:-60} MODES=${MODES:-random replay hello} RATE=${RATE:-}
C=adit-flood-client F=adit-flood-flooder R=adit-flood-relay
PORT=4433 CLOSED=4434 RELAY=10.93.1.1
WORK=$(mktemp -d)
PIDS=()

[ "$(id -u)" = 0 ] || { echo "flood: needs root for network namespaces" >&2; exit 1; }
for tool in ip python3 taskset "$ADIT" "$FLOOD"; do
    command -v "$tool" >/dev/null || { echo "flood: $tool is missing" >&2; exit 1; }
done

down() {
    local pid ns
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for ns in $C $F $R; do ip netns del "$ns" 2>/dev/null || true; done
    rm -rf "$WORK"
}
trap down EXIT

link() { # name ns address address-of-the-relay
    ip link add "$1" netns "$2" type veth peer name "$1" netns $R
    ip -n "$2" addr add "$3" dev "$1"
    ip -n $R addr add "$4" dev "$1"
    ip -n "$2" link set "$1" up
    ip -n $R link set "$1" up
}

in_ns() { ip netns exec "$1" taskset -c 0,1 "${@:2}"; }
# For the background: the process is the program itself, so that it can be looked at and killed.
become_in_ns() { exec ip netns exec "$1" taskset -c 0,1 "${@:2}"; }

up() {
    local ns
    for ns in $C $F $R; do
        ip netns del "$ns" 2>/dev/null || true
        ip netns add "$ns"
        ip -n "$ns" link set lo up
    done
    link adit-c $C 10.93.1.2/24 $RELAY/24
    link adit-f $F 10.93.2.2/24 10.93.2.1/24
    ip -n $F route add default via 10.93.2.1
    ip -n $F route add local 100.64.0.0/10 dev lo
    ip -n $R route add 100.64.0.0/10 via 10.93.2.2
    ip netns exec $R sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.adit-f.rp_filter=0
}

relay() {
    become_in_ns $R "$ADIT" bench server --dir "$WORK/relay" --listen $RELAY:$PORT >"$WORK/server.json" 2>"$WORK/server.log" &
    SERVER=$!
    PIDS+=($SERVER)
    for _ in $(seq 100); do grep -q READY "$WORK/server.log" && return; sleep 0.1; done
    echo "flood: the relay does not start" >&2; cat "$WORK/server.log" >&2; return 1
}

status_of() { sed -n "s/^$1:[[:space:]]*\([0-9]*\) kB/\1/p" /proc/$SERVER/status; }

flood() { # mode port seconds; for the background
    local sources=()
    [ "$1" = hello ] && sources=(--sources 100.64.0.0)
    become_in_ns $F "$FLOOD" send --bundle "$WORK/relay/relay.bundle" --to $RELAY:"$2" --mode "$1" --seconds "$3" \
        ${RATE:+--rate "$RATE"} "${sources[@]}"
}

# The same, and once more when a run fails; what failed is reported.
tunnel() { # mode port report
    run_tunnel "$@" && return
    echo "$1 to port $2" >>"$WORK/repeated"
    run_tunnel "$@"
}

# Goodput in bit/s of a tunnel that stands before the flood begins.
run_tunnel() { # mode port report
    local flooder=
    if [ "$1" != none ]; then
        flood "$1" "$2" $((SECONDS_EACH + 1)) >"$3" 2>"$WORK/ready" &
        flooder=$!
        until grep -q READY "$WORK/ready" 2>/dev/null; do sleep 0.05; done
    fi
    in_ns $C "$ADIT" bench client "$WORK/relay/relay.bundle" --json --workload bulk --seconds "$SECONDS_EACH" \
        >"$WORK/client.json" 2>"$WORK/client.log" || {
        cat "$WORK/client.log" >&2
        [ -z "$flooder" ] || wait "$flooder"
        return 1
    }
    [ -z "$flooder" ] || wait "$flooder"
    python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["gbit_per_s"] * 1e9)' "$WORK/client.json"
}

measure() { # mode
    local mode=$1 round
    : >"$WORK/pairs"
    tunnel none 0 /dev/null >/dev/null
    tunnel "$mode" $CLOSED "$WORK/send" >/dev/null
    local before; before=$(status_of VmRSS)
    echo 5 >/proc/$SERVER/clear_refs
    for round in $(seq "$ROUNDS"); do
        local closed open
        closed=$(tunnel "$mode" $CLOSED "$WORK/closed")
        open=$(tunnel "$mode" $PORT "$WORK/open")
        echo "$closed $open $(tr -d '\n' <"$WORK/closed") | $(tr -d '\n' <"$WORK/open")" >>"$WORK/pairs"
    done
    flood "$mode" $PORT $((HONEST / 2 + 40)) >/dev/null 2>&1 &
    local flooder=$!
    sleep 3
    in_ns $C "$FLOOD" honest --bundle "$WORK/relay/relay.bundle" --count "$HONEST" --interval-ms 500 >"$WORK/honest"
    kill $flooder 2>/dev/null || true
    wait $flooder 2>/dev/null || true
    python3 - "$mode" "$before" "$(status_of VmHWM)" "$WORK/pairs" "$WORK/honest" "$WORK/results" <<'PY'
import json, statistics, sys
mode, before, peak, pairs, honest, results = sys.argv[1:]
rows = []
for line in open(pairs):
    numbers, flood_open = line.split(" | ")
    closed, opened, flood_closed = numbers.split(" ", 2)
    rows.append((float(closed), float(opened), json.loads(flood_closed), json.loads(flood_open)))
honest = json.load(open(honest))
median = statistics.median
result = {
    "mode": mode,
    "goodput_ratio": round(median(opened / closed for closed, opened, *_ in rows), 3),
    "goodput_ratios": [round(opened / closed, 3) for closed, opened, *_ in rows],
    "goodput_closed_bps": median(row[0] for row in rows),
    "goodput_open_bps": median(row[1] for row in rows),
    "flood_closed_per_second": median(row[2]["per_second"] for row in rows),
    "flood_open_per_second": median(row[3]["per_second"] for row in rows),
    "rss_growth_bytes": (int(peak) - int(before)) * 1024,
    "honest": honest,
}
open(results, "a").write(json.dumps(result) + "\n")
sys.stderr.write(
    f"{mode:8} goodput {result['goodput_ratio']:.2f} of {result['goodput_closed_bps'] / 1e6:.0f} Mbit/s"
    f"   flood {result['flood_closed_per_second'] / 1e3:.0f} / {result['flood_open_per_second'] / 1e3:.0f} k datagrams/s"
    f"   relay +{result['rss_growth_bytes'] / 1048576:.1f} MiB   honest {honest['share']:.0%}"
    f" (median {honest['seconds_median']} s)\n")
PY
}

up
relay
for mode in $MODES; do measure "$mode"; done
touch "$WORK/repeated"
python3 - "$WORK/results" "$WORK/repeated" <<'PY'
import json, sys
results = [json.loads(line) for line in open(sys.argv[1])]
met = all(r["goodput_ratio"] >= 0.8 and r["rss_growth_bytes"] < 16 << 20 and r["honest"]["share"] >= 0.95 for r in results)
print(json.dumps({"targets": {"goodput_ratio": 0.8, "rss_growth_bytes": 16 << 20, "honest_share": 0.95}, "met": met, "tunnels_repeated": open(sys.argv[2]).read().splitlines(), "modes": results}, indent=1))
PY
