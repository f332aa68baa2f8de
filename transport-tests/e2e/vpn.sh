#!/usr/bin/env bash
# The VPN end to end: `adit connect --tun` and the relay's [tun], with the kernel's own TCP, ICMP and path MTU discovery on top.
#
#   client -- nat -- relay -- target: as in lib.sh; the machine with the NAT has a client of its own, "the other".
#
# VPN_ROAM_SECONDS (60): how long the client moves about, at least 24. Needs root, TUN, iproute2, nftables, conntrack, nginx, curl, iperf3,
# ping, tracepath, setpriv and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
E2E=adit-vpn
. transport-tests/e2e/lib.sh
ROAM=${VPN_ROAM_SECONDS:-60}
O=$N TARGET=10.91.3.2 TARGET6=fd91:3::2 PUBLIC=9.9.9.9 PUBLIC6=2620:fe::9
declare -A PID

for tool in ip nft conntrack nginx curl iperf3 ping tracepath setpriv python3 sha256sum; do
    command -v "$tool" >/dev/null || { echo "vpn: $tool is missing; these tests are never skipped" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "vpn: needs root for network namespaces" >&2; exit 1; }
down; WORK=$(mktemp -d); trap down EXIT
# Somebody without privileges runs it as well.
chmod 755 "$WORK"
cp "${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}" "$WORK/adit"
ADIT=$WORK/adit

network() {
    up
    UPLINK=$(ip -n $C -o addr show | awk '/10\.91\.1\.2/ {print $2}')
    MIDDLE=$(ip -n $N -o addr show | awk '/10\.91\.2\.2/ {print $2}')
    FAR=$(ip -n $R -o addr show | awk '/10\.91\.2\.1/ {print $2}')
    in_ns $C sysctl -qw net.ipv4.conf.all.promote_secondaries=1
    in_ns $R sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip -n $R addr add fd91:3::1/64 nodad dev "$(ip -n $R -o addr show | awk '/10\.91\.3\.1/ {print $2}')"
    ip -n $T addr add $TARGET6/64 nodad dev "$(ip -n $T -o addr show | awk '/10\.91\.3\.2/ {print $2}')"
    ip -n $T addr add $PUBLIC/32 dev lo
    ip -n $T addr add $PUBLIC6/128 nodad dev lo
    ip -n $R route add $PUBLIC via $TARGET
    ip -n $R route add $PUBLIC6 via $TARGET6
    ip -n $T route add default via 10.91.3.1
    ip -n $T route add default via fd91:3::1
    in_ns $N nft -f - <<NFT
table inet seen {
    counter elsewhere {}
    counter carriers {}
    chain arriving {
        type filter hook prerouting priority -300;
        ip daddr $PUBLIC counter name elsewhere
        ip daddr 10.91.2.1 udp dport 4433 counter name carriers
    }
}
NFT
}

# Of a counter of `network`.
seen() { in_ns $N nft list counter inet seen "$1" | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }

targets() {
    mkdir "$WORK/www"
    chmod 755 "$WORK/www"
    head -c $((100 * 1024 * 1024)) /dev/urandom >"$WORK/www/big"
    SUM=$(sha256sum <"$WORK/www/big")
    cat >"$WORK/nginx.conf" <<NGINX
worker_processes 1;
pid $WORK/nginx.pid;
error_log $WORK/nginx.log;
events {}
http {
    access_log off; sendfile on;
    server { listen 80; listen [::]:80; root $WORK/www; location = /who { return 200 \$remote_addr; } }
}
NGINX
    in_ns $T nginx -c "$WORK/nginx.conf"
    in_ns $T iperf3 -s >/dev/null 2>&1 &
}

stop() { # signal what
    local code=0
    [ -n "${PID[$2]:-}" ] && kill -"$1" "${PID[$2]}" || return
    wait "${PID[$2]}" || code=$?
    unset "PID[$2]"
    return "$code"
}

start_relay() { # what differs from its file, as NAME=VALUE
    : >"$WORK/relay.log"
    env ADIT_STATE_DIR="$WORK/relay/state" ADIT_TUN_ENABLED=true ADIT_TUN_ROUTES=10.91.3.0/24,fd91:3::/64 "$@" \
        ip netns exec $R "$ADIT" relay --config "$WORK/relay/relay.toml" --log info 2>"$WORK/relay.log" &
    PID[relay]=$!
    wait_for 10 READY "$WORK/relay.log"
}

restart_relay() {
    stop KILL relay 2>/dev/null || true
    start_relay "$@"
}

# Its /etc is a folder of these tests.
connect() { # namespace arguments
    local ns=$1
    shift
    ADIT_STATE_DIR="$WORK/state-$ns" exec ip netns exec "$ns" bash -c 'mount --bind "$1" /etc; shift; exec "$@"' - "$WORK/etc" \
        "$ADIT" connect "$WORK/relay/relay.bundle" --json "$@"
}

start_client() { # namespace arguments
    local ns=$1
    shift
    : >"$WORK/events-$ns"
    connect "$ns" --tun tun0 --log info "$@" >>"$WORK/events-$ns" 2>"$WORK/log-$ns" &
    PID[$ns]=$!
    wait_for 10 '"event":"connected"' "$WORK/events-$ns"
}

restart_client() {
    stop TERM "$1" 2>/dev/null || true
    start_client "$@"
}

address() { # 4|6 namespace
    ip -n "$2" -"$1" -o addr show dev tun0 scope global | awk '{sub("/.*", "", $4); print $4}'
}

# The device's MTU, once the path's width has been found.
settled_mtu() {
    local last=0 now same=0
    while [ $same -lt 10 ]; do
        now=$(in_ns $C cat /sys/class/net/tun0/mtu)
        if [ "$now" = "$last" ]; then same=$((same + 1)); else same=0; fi
        last=$now
        sleep 0.1
    done
    echo "$now"
}

reaches() { in_ns "$1" ping -c 1 -W 2 "${@:2}"; }

# --- what the checks do

has_addresses() {
    address 4 $C | grep -x '10\.77\.[0-9.]*' && address 6 $C | grep -x 'fd77:[0-9a-f:]*'
}

ping_all() {
    reaches $C 10.77.0.1 | grep 'ttl=64' && reaches $C fd77::1 | grep 'ttl=64' &&
        reaches $C $TARGET | grep 'ttl=63' && reaches $C $TARGET6 | grep 'ttl=63' &&
        reaches $T "$(address 4 $C)" | grep 'ttl=63' && reaches $T "$(address 6 $C)" | grep 'ttl=63'
}

download() { # host
    local got
    got=$(in_ns $C curl -sS --fail --max-time 15 "http://$1/big" | sha256sum)
    [ "$got" = "$SUM" ] || { echo "the checksum differs"; return 1; }
}

upload() { timeout 15 ip netns exec $C iperf3 -c $TARGET -n 100M -J >"$WORK/upload.json" || { tail -n 3 "$WORK/upload.json"; return 1; }; }

narrow() { # MTU of the path; the client starts anew, since it remembers what it found
    ip -n $N link set "$MIDDLE" mtu "$1"
    ip -n $R link set "$FAR" mtu "$1"
    ip -n $T route flush cache
    ip -n $T -6 route flush cache
    restart_client $C
    MTU=$(settled_mtu)
    echo "path $1, device $MTU"
}

# IPv6 wants 1280 whatever the path is; a wider path loses to headers what RFC 9484 and the sealed packet take.
mtu_fits() { # MTU of the path
    echo "device $MTU"
    if [ "$1" -ge 1400 ]; then [ "$MTU" -le "$1" ] && [ "$MTU" -ge $(($1 - 100)) ]; else [ "$MTU" = 1280 ]; fi
}

traced_mtu() { # namespace address
    local found
    found=$(in_ns "$1" tracepath -n -m 4 "$2")
    echo "$found"
    grep -q "Resume: pmtu $MTU " <<<"$found"
}

# Bursts of UDP reach the device whole, are cut into datagrams, and leave the other device joined again.
bursts() { # from to address namespace device
    local receiver before after
    in_ns "$2" python3 transport-tests/e2e/uso_probe.py receive "$3" 5300 >"$WORK/bursts" &
    receiver=$!
    wait_for 5 READY "$WORK/bursts"
    before=$(in_ns "$4" cat "/sys/class/net/$5/statistics/tx_packets")
    in_ns "$1" python3 transport-tests/e2e/uso_probe.py send "$3" 5300 || return
    after=$(in_ns "$4" cat "/sys/class/net/$5/statistics/tx_packets")
    wait "$receiver" || return
    cat "$WORK/bursts"
    [ $((after - before)) -lt 200 ] || { echo "$((after - before)) packets for 40 bursts of 20"; return 1; }
}

bursts_stay_whole() {
    bursts $C $T $TARGET $C tun0 && bursts $C $T $TARGET6 $C tun0 &&
        bursts $T $C "$(address 4 $C)" $R adit0 && bursts $T $C "$(address 6 $C)" $R adit0
}

# The largest packet passes in both directions; who sends a larger one is told, or remembers what tracepath was told.
limit_is_exact() {
    local from to
    for from in $C $T; do
        to=$TARGET
        [ "$from" = $C ] || to=$(address 4 $C)
        reaches "$from" -M do -s $((MTU - 28)) "$to" || return
        refused_with "mtu ?= ?$MTU" "$from" -M do -s $((MTU - 27)) "$to" || return
        to=$TARGET6
        [ "$from" = $C ] || to=$(address 6 $C)
        reaches "$from" -M do -s $((MTU - 48)) "$to" || return
        refused_with "mtu ?[=:] ?$MTU" "$from" -M do -s $((MTU - 47)) "$to" || return
    done
}

# A relay beside the NAT, which may lead to the other one.
start_first() {
    "$ADIT" init relay --dir "$WORK/first" --endpoint 10.91.1.1:4434 --access open --json >/dev/null
    env ADIT_STATE_DIR="$WORK/first/state" ADIT_TARGETS_ALLOW=10.91.2.1 \
        ip netns exec $N "$ADIT" relay --config "$WORK/first/relay.toml" --log info 2>"$WORK/first.log" &
    PID[first]=$!
    wait_for 10 READY "$WORK/first.log"
}

# What the client itself sends to the second relay would be forwarded here.
through_both() {
    local before
    before=$(seen carriers)
    reaches $C $PUBLIC | grep 'ttl=63' && download $PUBLIC || return
    [ "$(seen carriers)" = "$before" ] || { echo "packets from $before to $(seen carriers)"; return 1; }
    grep -q '"via":\["[0-9a-f]\{64\}"\]' "$WORK/events-$C"
}

refused_with() { # pattern namespace ping-arguments
    local said
    said=$(reaches "${@:2}" 2>&1) && { echo "it came through: $said"; return 1; }
    grep -E -e "$1" <<<"$said" || { echo "wanted '$1': $said"; return 1; }
}

fragments_pass() { reaches $C -M dont -s 4000 $TARGET && reaches $T -M dont -s 4000 "$(address 4 $C)"; }

# By turns: another address of the client, another port at the NAT.
move_about() {
    local seconds=$1 turn=0 old=10.91.1.2 new port flows
    while [ $((seconds -= 8)) -gt 0 ]; do
        sleep 8
        turn=$((turn + 1))
        if [ $((turn % 2)) = 1 ]; then
            new=10.91.1.$((10 + turn))
            ip -n $C addr add "$new/24" dev "$UPLINK"
            ip -n $C addr del "$old/24" dev "$UPLINK"
            ip -n $C route replace default via 10.91.1.1
            old=$new
        else
            port=$((302 + turn))
            nat_rebind ${port}00-${port}99
        fi
    done
    # Both were of effect: the NAT knows the client by the last of each.
    sleep 1
    flows=$(in_ns $N conntrack -L -p udp --dport 4433 2>/dev/null)
    grep -q "src=$old .*dport=$port" <<<"$flows" || { echo "$flows"; return 1; }
}

# What arrives counts, in tenths of a second.
survives_moving() { # seconds
    local moving turn
    : >"$WORK/events-$C"
    move_about "$1" &
    moving=$!
    in_ns $T iperf3 -s -1 -p 5202 -i 0.1 -J >"$WORK/arrived.json" &
    sleep 0.3
    in_ns $C iperf3 -c $TARGET -p 5202 -t "$1" -b 50M >/dev/null || return
    wait "$moving" || { echo "it did not move"; return 1; }
    for ((turn = 1; turn <= ($1 - 1) / 8; turn += 2)); do
        grep -q "\"event\":\"migrated\".*\"local\":\"10.91.1.$((10 + turn))\"" "$WORK/events-$C" || { echo "not told of turn $turn"; return 1; }
    done
    python3 - "$WORK/arrived.json" <<'PY'
import itertools, json, sys
report = json.load(open(sys.argv[1]))
silent = [part["sum"]["bytes"] == 0 for part in report["intervals"]]
gap = max((len(list(run)) for zero, run in itertools.groupby(silent) if zero), default=0)
print(f"longest gap {gap / 10} s of {len(silent) / 10} s, {sum(p['sum']['bytes'] for p in report['intervals']) / 1e6:.0f} MB")
sys.exit("error" in report or gap >= 10 or not silent)
PY
}

clients_are_apart() {
    refused_with "Packet filtered" $C "$(address 4 $O)" &&
        refused_with "prohibited" $C "$(address 6 $O)"
}

nobody_is_unreachable() {
    refused_with "Host Unreachable" $T 10.77.9.9 && refused_with "Address unreachable" $T fd77::9:9
}

clients_meet() { reaches $C "$(address 4 $O)" && reaches $O "$(address 6 $C)"; }

# The client refuses it itself, and tells who sent it; nothing of it reaches the relay's device.
no_foreign_source() {
    local before
    before=$(received)
    ip -n $C addr add 10.77.0.99/32 dev tun0
    refused_with "Packet filtered" $C -I 10.77.0.99 $TARGET && [ "$(received)" = "$before" ]
}

received() { in_ns $R cat /sys/class/net/adit0/statistics/rx_packets; }

lease_is_kept() { # command: afterwards the client has the addresses it had before
    local before
    before=$(address 4 $C; address 6 $C)
    "$@" || return
    [ "$before" = "$(address 4 $C; address 6 $C)" ] && reaches $C $TARGET
}

# Its clients hear of its end; they need not wait for silence.
relay_comes_back() {
    : >"$WORK/events-$C"
    stop INT relay || true
    start_relay ADIT_TUN_BETWEEN_CLIENTS=true
    wait_for 8 '"event":"reconnected"' "$WORK/events-$C"
}

# An IP tunnel never ends by itself: a relay that drains does not wait for it, and the client finds the next one.
relay_drains() {
    stop TERM $O
    : >"$WORK/events-$C"
    kill -TERM "${PID[relay]}"
    timeout 5 tail --pid="${PID[relay]}" -f /dev/null || { echo "it waits"; return 1; }
    wait "${PID[relay]}" || return
    start_relay
    wait_for 8 '"event":"reconnected"' "$WORK/events-$C"
}

# The last event of a client that is ended.
tells_what_it_carried() {
    restart_client $C
    reaches $C $TARGET || return
    stop INT $C || true
    tail -n 1 "$WORK/events-$C"
    python3 - "$WORK/events-$C" <<'PY'
import json, sys
last = json.loads(open(sys.argv[1]).readlines()[-1])
ways = [(last["ip"][f"packets_{way}"], last["ip"][f"bytes_{way}"]) for way in ("up", "down")]
sys.exit(last["event"] != "closed" or any(packets < 1 or size < 84 for packets, size in ways))
PY
}

# Nothing leaves beside the tunnel, whether it stands or its process was killed.
nothing_leaks() {
    local before
    before=$(seen elsewhere)
    ! reaches $C $PUBLIC && [ "$(seen elsewhere)" = "$before" ]
}

leaks_without() {
    local before
    before=$(seen elsewhere)
    reaches $C $PUBLIC || true
    [ "$(seen elsewhere)" -gt "$before" ]
}

killed_closed() {
    stop KILL $C || true
    nothing_leaks && grep -q '^nameserver 10.91.3.2$' "$WORK/etc/resolv.conf"
}

resolvers_are() { diff - "$WORK/etc/resolv.conf"; }

interrupted() { # 130, and no trace
    local code=0
    stop INT $C || code=$?
    [ "$code" = 130 ] || { echo "exit code $code"; return 1; }
    ip -n $C rule; ip -n $C -6 rule; ip -n $C route show table all; ip -n $C link
    ! ip -n $C rule | grep 1021 && ! ip -n $C -6 rule | grep 1021 &&
        [ -z "$(ip -n $C route show table 2769 2>&1 | grep -v 'does not exist'; ip -n $C -6 route show table 2769 2>/dev/null)" ] &&
        ! ip -n $C link show tun0 2>/dev/null && ! ls "$WORK/state-$C/tun/"*.json 2>/dev/null &&
        resolvers_are <<<"nameserver 192.0.2.53"
}

ends_early() { # before the relay, which is not there, has answered
    local tries=50
    connect $C --tun tun0 --kill-switch --dns 10.91.3.2 >/dev/null 2>"$WORK/log-$C" &
    PID[$C]=$!
    until ip -n $C rule | grep -q 1021; do
        [ $((tries -= 1)) -gt 0 ] || return
        sleep 0.1
    done
    SECONDS=0
    interrupted && [ $SECONDS -le 3 ]
}

everything_by_the_tunnel() {
    local elsewhere carriers
    elsewhere=$(seen elsewhere) carriers=$(seen carriers)
    [ "$(in_ns $C curl -sS --max-time 5 http://$PUBLIC/who)" = 10.91.3.1 ] || { echo "v4 source"; return 1; }
    [ "$(in_ns $C curl -sS --max-time 5 "http://[$PUBLIC6]/who")" = fd91:3::1 ] || { echo "v6 source"; return 1; }
    in_ns $C iperf3 -c $PUBLIC -t 5 -b 50M >/dev/null || return
    [ "$(seen elsewhere)" = "$elsewhere" ] && [ "$(seen carriers)" -gt $((carriers + 1000)) ] &&
        ! grep '"event":"closed"' "$WORK/events-$C"
}

ends_with() { # code pattern command
    local code=0 pid killer
    "${@:3}" >"$WORK/ended" 2>&1 &
    pid=$!
    (sleep 15; kill -KILL "$pid") &
    killer=$!
    wait "$pid" || code=$?
    kill "$killer"
    cat "$WORK/ended"
    [ "$code" = "$1" ] || { echo "exit code $code"; return 1; }
    grep -q -e "$2" "$WORK/ended"
}

network
targets
"$ADIT" init relay --dir "$WORK/relay" --endpoint 10.91.2.1:4433 >/dev/null
"$ADIT" init client --dir "$WORK" >/dev/null
mkdir "$WORK/etc"
echo "nameserver 192.0.2.53" >"$WORK/etc/resolv.conf"
start_relay
start_client $C
check "the client has an address of each family" has_addresses
check "pings to the relay and the target, both families, one hop" ping_all
check "bursts of UDP stay whole through both devices, both ways, both families" bursts_stay_whole

for path in 1500 1400 1280 1200 1124; do
    check "path MTU $path: a client connects" narrow $path
    check "path MTU $path: the device fits" mtu_fits $path
    check "path MTU $path: 100 MiB down with the right checksum" download $TARGET
    check "path MTU $path: 100 MiB up" upload
    check "path MTU $path: tracepath from the client" traced_mtu $C $TARGET
    check "path MTU $path: tracepath to the client" traced_mtu $T "$(address 4 $C)"
    check "path MTU $path: the limit is exact, and told" limit_is_exact
    check "path MTU $path: packets that may be cut pass" fragments_pass
done
narrow 1500 >/dev/null

check "TCP survives $ROAM s of moves, no gap of a second" survives_moving "$ROAM"
cat "$WORK/check.log"

start_client $O
check "clients do not reach each other, and are told" clients_are_apart
check "who calls an address that no client has is told" nobody_is_unreachable
check "a source that is not the client's does not come through" no_foreign_source
restart_relay ADIT_TUN_BETWEEN_CLIENTS=true
restart_client $C --identity "$WORK/client.key"
restart_client $O
check "clients reach each other with between_clients" clients_meet
check "the same addresses after a restart of the relay" lease_is_kept relay_comes_back
check "the same addresses after a restart of the client" lease_is_kept restart_client $C --identity "$WORK/client.key"
check "SIGTERM does not wait for IP tunnels, and the addresses stay" lease_is_kept relay_drains
check "a client that ends tells what it carried" tells_what_it_carried

check "without a kill switch the rest goes its way" leaks_without
start_client $C --kill-switch --dns 10.91.3.2
check "a kill switch lets nothing past" nothing_leaks
check "a client that is killed leaves nothing open" killed_closed
start_client $C --kill-switch --dns 10.91.3.2
check "SIGINT ends with 130 and leaves no trace" interrupted

ip -n $T route del default
ip -n $T -6 route del default
restart_relay ADIT_TUN_ROUTES=0.0.0.0/0,::/0 ADIT_TUN_NAT=true
start_client $C
check "everything goes by the tunnel and leaves as the relay" everything_by_the_tunnel
check "no trace of that either" interrupted
start_first
start_client $C --kill-switch --via "$WORK/first/relay.bundle"
check "a tunnel through two relays, by the first one alone" through_both
check "no trace of two either" interrupted
stop INT first || true

ip -n $C link add tun9 type veth peer name nut9
check "a device that is there already is named" ends_with 1 tun9 connect $C --tun tun9
check "a name that is too long" ends_with 2 "" connect $C --tun a-name-of-sixteen
check "no privilege" ends_with 6 "" ip netns exec $C setpriv --reuid 65534 --regid 65534 --clear-groups \
    env ADIT_STATE_DIR=/tmp/nobody-$$ "$ADIT" connect "$WORK/relay/relay.bundle" --tun tun0
rm -rf /tmp/nobody-$$
restart_relay ADIT_TUN_POOL=10.78.0.0/30 ADIT_TUN_ROUTES=
start_client $C
check "a pool that is exhausted" ends_with 1 "no address left" connect $O --tun tun0
stop INT $C || true
restart_relay ADIT_TUN_ENABLED=false
check "a relay without a tunnel" ends_with 1 "enabled = true" connect $C --tun tun0
stop TERM relay
check "SIGINT before the relay answers ends at once and leaves no trace" ends_early
check "a pool that is none" ends_with 3 10.78.0.0/33 env ADIT_TUN_ENABLED=true ADIT_TUN_POOL=10.78.0.0/33 \
    "$ADIT" relay --config "$WORK/relay/relay.toml"

if [ "$FAILED" != 0 ]; then
    echo "--- relay"; tail -n 40 "$WORK/relay.log"
    echo "--- client"; tail -n 40 "$WORK/log-$C"; tail -n 5 "$WORK/events-$C"
fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
