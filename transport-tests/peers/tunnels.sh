#!/usr/bin/env bash
# A VPN of adit beside wireguard-go and boringtun, where these are installed: iperf3 through each, in turn, round after round.
#
#   transport-tests/peers/tunnels.sh [--rounds 3] [--seconds 3] [--adit FILE]
#
# Two namespaces, a veth of MTU 1500, the tunnel's client on core 0 and its other end on core 1, iperf3 wherever the kernel puts
# it. `adit-busy` looks for packets for 200 us before it sleeps. Prints Gbit/s as received, and CPU-seconds of either end for each
# gigabyte. Needs root, iperf3, python3, wireguard-tools.
set -euo pipefail
cd "$(dirname "$0")/../.."

ROUNDS=3 SECONDS_EACH=3 ADIT=target/release/adit
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) ROUNDS=$2 ;;
        --seconds) SECONDS_EACH=$2 ;;
        --adit) ADIT=$2 ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
A=adit-tun-a B=adit-tun-b
WORK=$(mktemp -d)

down() {
    local ns
    for ns in $A $B; do
        ip netns pids $ns 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns pids $ns 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del $ns 2>/dev/null || true
    done
    rm -f /var/run/wireguard/{wga,wgb}.sock
}
trap 'down; rm -rf "$WORK"' EXIT

up() {
    down
    for ns in $A $B; do ip netns add $ns; ip -n $ns link set lo up; done
    ip link add va netns $A type veth peer name vb netns $B
    ip -n $A addr add 10.90.0.1/24 dev va; ip -n $A link set va up
    ip -n $B addr add 10.90.0.2/24 dev vb; ip -n $B link set vb up
    ip netns exec $B iperf3 -s -D >/dev/null
}

start_adit() { # microseconds
    rm -rf "$WORK/adit"
    "$ADIT" init relay --dir "$WORK/adit" --endpoint 10.90.0.2:4433 >/dev/null
    export ADIT_STATE_DIR="$WORK/adit/state" ADIT_TUN_ENABLED=true ADIT_METRICS_LISTEN= ADIT_LISTEN_BUSY_POLL_US=$1
    ip netns exec $B taskset -c 1 "$ADIT" relay --config "$WORK/adit/relay.toml" 2>"$WORK/b.log" & FAR=$!
    sleep 0.5
    ip netns exec $A taskset -c 0 "$ADIT" connect "$WORK/adit/relay.bundle" --tun tun0 --busy-poll "$1" 2>"$WORK/a.log" & NEAR=$!
    TARGET=10.77.0.1
}

# program, its arguments: two ends of WireGuard in user space.
start_wireguard() {
    local a b
    a=$(wg genkey); b=$(wg genkey)
    WG_PROCESS_FOREGROUND=1 ip netns exec $B taskset -c 1 "$@" wgb >"$WORK/b.log" 2>&1 & FAR=$!
    WG_PROCESS_FOREGROUND=1 ip netns exec $A taskset -c 0 "$@" wga >"$WORK/a.log" 2>&1 & NEAR=$!
    sleep 0.7
    ip netns exec $B wg set wgb private-key <(echo "$b") listen-port 51820 \
        peer "$(wg pubkey <<<"$a")" allowed-ips 10.78.0.0/24
    ip netns exec $A wg set wga private-key <(echo "$a") \
        peer "$(wg pubkey <<<"$b")" allowed-ips 10.78.0.0/24 endpoint 10.90.0.2:51820
    ip -n $A addr add 10.78.0.2/24 dev wga; ip -n $A link set wga mtu 1420 up
    ip -n $B addr add 10.78.0.1/24 dev wgb; ip -n $B link set wgb mtu 1420 up
    TARGET=10.78.0.1
}

start() {
    case $1 in
        adit) start_adit 0 ;;
        adit-busy) start_adit 200 ;;
        wireguard-go) start_wireguard wireguard-go -f ;;
        boringtun) start_wireguard boringtun-cli -f --disable-drop-privileges ;;
    esac
    local try
    for try in $(seq 50); do
        ip netns exec $A ping -c 1 -W 1 -q $TARGET >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "$1 does not answer" >&2; cat "$WORK"/?.log >&2; return 1
}

ticks() { awk '{sub(/.*\) /, ""); print $12 + $13}' "/proc/$1/stat"; }

measure() { # tunnel load iperf3-arguments...
    local tunnel=$1 load=$2 near far json
    shift 2
    near=$(ticks $NEAR) far=$(ticks $FAR)
    json=$(ip netns exec $A iperf3 -J -c $TARGET -t "$SECONDS_EACH" "$@")
    near=$(($(ticks $NEAR) - near)) far=$(($(ticks $FAR) - far))
    python3 - "$tunnel" "$load" $near $far <<PY
import json, sys
end = json.loads(r'''$json''')["end"]["sum_received"]
gigabytes = end["bytes"] / 1e9
near, far = (int(ticks) / 100 / gigabytes for ticks in sys.argv[3:])
print(f"{sys.argv[1]:14}{sys.argv[2]:9}{gigabytes * 8 / end['seconds']:6.2f} Gbit/s {near:6.2f} {far:6.2f} CPU-s/GB")
PY
}

latency() {
    ip netns exec $A ping -c 300 -i 0.005 "$2" | sed -n 's/.*time=\([0-9.]*\).*/\1/p' | sort -n |
        awk -v name="$1" '{a[NR] = $1} END {printf "%-14sping     %6.3f ms p50 %6.3f ms p99\n", name, a[int(NR / 2)], a[int(NR * 0.99)]}'
}

for round in $(seq "$ROUNDS"); do
    for tunnel in adit adit-busy wireguard-go boringtun; do
        case $tunnel in boringtun) program=boringtun-cli ;; adit*) program=$ADIT ;; *) program=$tunnel ;; esac
        command -v "$program" >/dev/null || continue
        up
        start $tunnel
        latency $tunnel $TARGET
        measure $tunnel tcp1
        measure $tunnel tcp1-R -R
        measure $tunnel tcp4 -P 4
        measure $tunnel tcp4-R -P 4 -R
        kill $NEAR $FAR; wait $NEAR $FAR 2>/dev/null || true
    done
    up; latency bare 10.90.0.2
done
