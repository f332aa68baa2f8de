#!/usr/bin/env bash
# Measures adit beside quinn, s2n-quic, quiche and bare UDP, in turn, in two network namespaces on this machine.
#
#   sudo transport-tests/peers/run.sh [--rounds N] [--seconds S] [--only REGEX] [--out DIR] [--no-build]
#
# REGEX is matched against "NET WORKLOAD VARIANT", e.g. '^seg bulk (adit|quinn)-aes'. DIR (target/peers) receives raw.jsonl,
# results.json, table.md and plot.svg. Needs root, two cores, iproute2, ethtool and openssl, and for quiche cmake and clang.
# CARGO is what builds (cargo); GATE is put in front of every group of measurements of one workload, as `GATE COMMAND...`.
# What is measured and how it is set up: README.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

ROUNDS=3 SECONDS_EACH=3 ONLY=. OUT= BUILD=1
while [ $# -gt 0 ]; do
    case $1 in
        --no-build) BUILD=0; shift; continue ;;
        --rounds) ROUNDS=$2 ;;
        --seconds) SECONDS_EACH=$2 ;;
        --only) ONLY=$2 ;;
        --out) OUT=$2 ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done

TARGET=${CARGO_TARGET_DIR:-}
ADIT=${TARGET:-$root/target}/release/adit
BIN=${TARGET:-$here/target}/release
OUT=${OUT:-${TARGET:-$root/target}/peers}
S=adit-peers-server C=adit-peers-client
SERVER_ADDRESS=10.92.0.1 CLIENT_ADDRESS=10.92.0.2
# Held this long, idle connections have settled by the middle of it.
IDLE_CONNECTIONS=1000 IDLE_SECONDS=4
# Buffers everybody asks for; the kernel gives no more than this.
SOCKET_BUFFER=4194304

say() { echo "peers: $*" >&2; }

down() {
    local ns
    for ns in $S $C; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
}

# seg: the kernel cuts every burst into packets and joins them again, as with a NIC without segmentation offload.
# whole: bursts cross as they are, as on loopback.
up() { # mode
    local ns device address
    down
    ip netns add $S
    ip netns add $C
    ip link add peers netns $S type veth peer name peers netns $C
    for ns in $S $C; do
        address=$SERVER_ADDRESS
        [ $ns = $S ] || address=$CLIENT_ADDRESS
        ip -n $ns addr add $address/24 dev peers
        ip -n $ns link set lo up
        ip -n $ns link set peers mtu 1500 up
        ip netns exec $ns sysctl -qw net.ipv4.ip_local_port_range="1024 65535"
        if [ "$1" = seg ]; then
            ip netns exec $ns ethtool -K peers tx-udp-segmentation off gro on rx-udp-gro-forwarding on >/dev/null
        fi
    done
}

# The limits of socket buffers belong to the host; they are raised for everybody alike and left so.
raise() {
    local key have
    for key in net.core.rmem_max net.core.wmem_max; do
        have=$(sysctl -n $key)
        if [ "$have" -lt $SOCKET_BUFFER ]; then
            say "$key raised from $have to $SOCKET_BUFFER"
            sysctl -qw $key=$SOCKET_BUFFER
        fi
    done
}

build() {
    local peer cargo=${CARGO:-cargo}
    (cd "$root" && $cargo build --release --locked -p adit) || exit 1
    # What was built from older sources must not be measured.
    rm -f "$BIN"/peer-{udp,quinn,s2n,quiche} "$BIN/peers-report"
    (cd "$here" && $cargo build --release --locked --keep-going) || true
    for peer in udp quinn s2n quiche; do
        [ -x "$BIN/peer-$peer" ] || say "SKIP: peer-$peer does not build"
    done
    [ -x "$BIN/peers-report" ] || { say "the report does not build"; exit 1; }
}

certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout "$OUT/certs/key.pem" \
        -out "$OUT/certs/cert.pem" -config - >"$OUT/openssl.log" 2>&1 <<'CONFIG'
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost
basicConstraints = critical,CA:FALSE
CONFIG
}

# Which variants a workload has: PROGRAM-CIPHER, and for adit PROVIDER between, or "busy": looks for packets before it sleeps.
variants() { # net workload
    local aes="adit-aes adit-rust-aes quinn-aes s2n-aes quiche-aes quinn-aes256 s2n-aes256 udp-aes"
    local chacha="adit-chacha adit-rust-chacha quinn-chacha s2n-chacha quiche-chacha udp-chacha"
    case $1.$2 in
        *.bulk | seg.datagrams) echo "$aes $chacha udp-none" ;;
        seg.echo) echo "adit-aes adit-busy-aes quinn-aes s2n-aes quiche-aes udp-none" ;;
        seg.handshakes | seg.idle) echo "adit-aes quinn-aes s2n-aes quiche-aes" ;;
    esac
}

# Sets SERVER and CLIENT to the commands of a variant; fails when it is not there.
command_of() { # workload variant port
    local program=${2%%-*} cipher=${2##*-} at="$SERVER_ADDRESS:$3" seconds=$SECONDS_EACH more=()
    case $1 in
        handshakes) more=(--connections 16) ;;
        idle) more=(--connections $IDLE_CONNECTIONS) seconds=$IDLE_SECONDS ;;
    esac
    more+=(--workload "$1" --seconds "$seconds")
    if [ "$program" = adit ]; then
        local names=([0]="") provider=() busy=()
        case $cipher in aes) names=aes256 ;; chacha) names=chacha20 ;; esac
        if [[ $2 == adit-rust-* ]]; then
            "$ADIT" bench client --help | grep -q -- --provider || return 1
            provider=(--provider rust)
        fi
        [[ $2 != adit-busy-* ]] || busy=(--busy-poll 30)
        SERVER=("$ADIT" bench server "${busy[@]}" --dir "$OUT/bench" --listen "$at")
        "$ADIT" bench server --help | grep -q -- --provider && SERVER+=("${provider[@]}")
        CLIENT=("$ADIT" bench client "${busy[@]}" "$OUT/bench/relay.bundle" --cipher "${names[0]}" "${provider[@]}" "${more[@]}" --json)
        return
    fi
    local peer="$BIN/peer-$program" common=("$at" --cipher "$cipher" --certs "$OUT/certs")
    [ -x "$peer" ] || return 1
    case $1 in handshakes) common+=(--hybrid) ;; esac
    SERVER=("$peer" server "${common[@]}" --workload "$1")
    CLIENT=("$peer" client "${common[@]}" "${more[@]}")
}

cpu_of() { awk '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / 100 }' "/proc/$1/stat"; }
rss_of() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null || true; }
busy() { awk '/^cpu / { printf "%.2f", ($2 + $3 + $4 + $7 + $8) / 100 }' /proc/stat; }

# One measurement: a line of raw.jsonl. The processor time of the server is taken here, by one ruler for all; the client's is in
# its JSON, by itself, without what it did before its work began.
measure() { # round net workload variant port
    local SERVER CLIENT log=$OUT/log pid sampler=0 rss=null rss_before=null from cpu_before busy_before took tried
    command_of "$3" "$4" "$5" || return 0
    # In the client's namespace, pinned, with an end.
    local limit=$((${SECONDS_EACH%.*} + 25))
    ip netns exec $S taskset -c 0 "${SERVER[@]}" >"$log.server" 2>&1 &
    pid=$!
    for tried in $(seq 500); do
        grep -q READY "$log.server" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    if ! grep -q READY "$log.server"; then
        say "$2 $3 $4: the server does not start: $(tail -n 1 "$log.server")"
        kill -9 $pid 2>/dev/null || true
        return 0
    fi
    if [ "$3" = idle ]; then
        rss_before=$(rss_of $pid)
        while sleep 0.1; do rss_of $pid; done >"$log.rss" &
        sampler=$!
    fi
    cpu_before=$(cpu_of $pid) busy_before=$(busy) from=$EPOCHREALTIME
    TIMEFORMAT='%3U %3S'
    { time timeout -k 2 $limit ip netns exec $C taskset -c 1 "${CLIENT[@]}" >"$log.client" 2>"$log.errors"; } 2>"$log.time" || true
    took=$(awk "BEGIN { print $EPOCHREALTIME - $from }")
    if [ $sampler != 0 ]; then
        kill $sampler 2>/dev/null || true
        wait $sampler 2>/dev/null || true
        # Two seconds before the end all are open and none is closing.
        rss=$(tail -n 20 "$log.rss" | head -n 1)
    fi
    record "$@"
    kill $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
}

# In the frame of `measure`.
record() { # round net workload variant port
    local client cpu
    client=$(tail -n 1 "$log.client")
    cpu=$(tail -n 1 "$log.time" | awk '{ print $1 + $2 }')
    if [ -z "$client" ]; then
        say "$2 $3 $4: FAILED: $(tail -n 1 "$log.errors")"
        client=null
    fi
    printf '{"round":%s,"net":"%s","workload":"%s","variant":"%s","took_s":%s,"client_cpu_s":%s,"server_cpu_s":%s,"busy_s":%s,"rss_before_kib":%s,"rss_kib":%s,"client":%s}\n' \
        "$1" "$2" "$3" "$4" "$took" "$cpu" "$(awk "BEGIN { print $(cpu_of $pid || echo 0) - $cpu_before }")" \
        "$(awk "BEGIN { print $(busy) - $busy_before }")" "$rss_before" "${rss:-null}" "$client" >>"$OUT/raw.jsonl"
    echo "round $1: $2 $3 $4: $(grep -oE '"(gbit_per_s|handshakes_per_s|p50)": ?[0-9.]+' <<<"$client" | tr '\n' ' ')"
}

# All variants of one workload, in an order that begins elsewhere each round.
group() { # round net workload
    local all=() variant index port=$((20000 + $1 % 100 * 100))
    for variant in $(variants "$2" "$3"); do
        [[ "$2 $3 $variant" =~ $ONLY ]] && all+=("$variant")
    done
    for index in "${!all[@]}"; do
        measure "$1" "$2" "$3" "${all[(index + $1) % ${#all[@]}]}" $((port + index))
    done
}

wanted() { # net workload
    local variant
    for variant in $(variants "$1" "$2"); do
        [[ "$1 $2 $variant" =~ $ONLY ]] && return
    done
    return 1
}

main() {
    local tool round net workload
    for tool in ip ethtool openssl taskset awk; do
        command -v $tool >/dev/null || { say "$tool is missing"; exit 1; }
    done
    [ "$(id -u)" = 0 ] || { say "needs root for network namespaces"; exit 1; }
    [ "$(nproc)" -ge 2 ] || { say "needs two cores"; exit 1; }
    [ $BUILD = 0 ] || build
    mkdir -p "$OUT/certs"
    : >"$OUT/raw.jsonl"
    certificate
    raise
    trap down EXIT
    trap 'exit 130' INT TERM
    export -f group measure record command_of variants cpu_of rss_of busy say
    export ROUNDS SECONDS_EACH ONLY OUT ADIT BIN S C SERVER_ADDRESS IDLE_CONNECTIONS IDLE_SECONDS
    for net in seg whole; do
        # Namespaces are laid once for a mode, so rounds of the two modes follow each other.
        for round in $(seq "$ROUNDS"); do
            for workload in bulk datagrams echo handshakes idle; do
                wanted $net $workload || continue
                if [ "${laid:-}" != $net ]; then up $net && laid=$net; fi
                ${GATE:-} bash -euo pipefail -c "group $round $net $workload"
            done
        done
    done
    "$BIN/peers-report" "$OUT"
}

main
