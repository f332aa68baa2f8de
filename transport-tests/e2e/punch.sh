#!/usr/bin/env bash
# Direct paths through the kernel's NATs: two peers in namespaces behind every pair of the four kinds, made with nftables, and a relay.
#
#   caller -- nat -- internet -- nat -- answerer      10 ms there and back on the internet; the relay is on it as well
#
# PEERS (target/release/peers): the program. Needs root, iproute2 and nftables.
set -euo pipefail
cd "$(dirname "$0")/../.."
P=adit-punch
PEERS=${PEERS:-${CARGO_TARGET_DIR:-target}/release/peers}
KINDS="full-cone address-restricted port-restricted symmetric"
for tool in ip nft; do
    command -v "$tool" >/dev/null || { echo "punch: $tool is missing; these tests are never skipped" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "punch: needs root for network namespaces" >&2; exit 1; }
WORK=$(mktemp -d)

down() {
    for space in net nat1 nat2 peer1 peer2; do
        for pid in $(ip netns pids $P-$space 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
        ip netns del $P-$space 2>/dev/null || true
    done
}
down; trap 'down; rm -rf "$WORK"' EXIT

# Makes one side: a peer, and its NAT on the internet.
side() {
    local n=$1 kind=$2
    ip netns add $P-nat$n; ip netns add $P-peer$n
    ip -n $P-net link add name port$n type veth peer name wan netns $P-nat$n
    ip -n $P-net link set port$n master switch up
    ip -n $P-nat$n link add name lan type veth peer name eth netns $P-peer$n
    ip -n $P-nat$n addr add 11.0.0.$n/24 dev wan; ip -n $P-nat$n link set wan up
    ip -n $P-nat$n addr add 192.168.$n.1/24 dev lan; ip -n $P-nat$n link set lan up
    ip -n $P-peer$n addr add 192.168.$n.2/24 dev eth; ip -n $P-peer$n link set eth up; ip -n $P-peer$n link set lo up
    ip -n $P-peer$n route add default via 192.168.$n.1
    ip netns exec $P-nat$n sysctl -qw net.ipv4.ip_forward=1
    local ports='' inward='' filter='policy drop; iif "lan" oif "wan" update @known { ip daddr } accept; ct state established,related accept;'
    case $kind in
        full-cone) inward="iif \"wan\" meta l4proto udp dnat to 192.168.$n.2"; filter='policy accept; ' ;;
        address-restricted) inward="iif \"wan\" meta l4proto udp dnat to 192.168.$n.2"; filter+=' ip saddr @known accept;' ;;
        port-restricted) ;;
        symmetric) ports=' random,fully-random' ;;
    esac
    ip netns exec $P-nat$n nft -f - <<NFT
table ip nat {
    set known { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
    chain pre { type nat hook prerouting priority dstnat; $inward; }
    chain post { type nat hook postrouting priority srcnat; oif "wan" masquerade$ports; }
    chain forward { type filter hook forward priority filter; $filter }
    chain input { type filter hook input priority filter; policy drop; iif "lan" accept; }
}
NFT
}

network() {
    down
    ip netns add $P-net
    ip -n $P-net link add name switch type bridge; ip -n $P-net link set switch up; ip -n $P-net link set lo up
    ip -n $P-net addr add 11.0.0.9/24 dev switch
    side 1 "$1"; side 2 "$2"
    for n in 1 2; do ip netns exec $P-nat$n tc qdisc add dev wan root netem delay 5ms 2>/dev/null || true; done
}

# Whether theory knows of a direct path.
meets() {
    case "$1 $2" in
        'symmetric symmetric' | 'symmetric port-restricted' | 'port-restricted symmetric') return 1 ;;
    esac
}

failed=0
for caller in $KINDS; do
    for answerer in $KINDS; do
        network "$caller" "$answerer"
        ip netns exec $P-net "$PEERS" relay 11.0.0.9:443 >"$WORK/relay" 2>&1 &
        sleep 0.3
        ip netns exec $P-peer2 "$PEERS" answer 11.0.0.9:443 >"$WORK/answer" 2>&1 &
        for _ in $(seq 50); do [ -s "$WORK/answer" ] && break; sleep 0.1; done
        told=$(ip netns exec $P-peer1 timeout 60 "$PEERS" call 11.0.0.9:443 "$(head -1 "$WORK/answer")" --messages "${MESSAGES:-300}" 2>&1) || true
        verdict=ok
        if meets "$caller" "$answerer"; then
            [[ $told == *', direct '[0-9]* ]] || verdict=FAILED
        else
            [[ $told == *', direct never'* ]] || verdict=FAILED
        fi
        [[ $told == *' came back'* ]] || verdict=FAILED
        [ $verdict = ok ] || failed=1
        printf '%-6s %-18s %-18s %s\n' $verdict "$caller" "$answerer" "$told"
    done
done
exit $failed
