#!/usr/bin/env bash
# End-to-end tests of the command in network namespaces: real sockets, a real NAT, a real web server.
# Needs root, iproute2, nftables, conntrack, nginx, dnsmasq, dig, curl and python3; without them it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
. transport-tests/e2e/lib.sh
ADIT=${ADIT:-${CARGO_TARGET_DIR:-target}/release/adit}
PROBE="python3 transport-tests/e2e/udp_probe.py"

for tool in ip nft conntrack nginx dnsmasq dig curl python3 sha256sum; do
    command -v "$tool" >/dev/null || { echo "e2e: $tool is missing; these tests are never skipped" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "e2e: needs root for network namespaces" >&2; exit 1; }
down; WORK=$(mktemp -d); trap down EXIT
up

targets() {
    mkdir -p "$WORK/www"
    head -c $((256 * 1024 * 1024)) /dev/urandom >"$WORK/www/big"
    SUM=$(sha256sum <"$WORK/www/big")
    cat >"$WORK/nginx.conf" <<NGINX
worker_processes 1;
pid $WORK/nginx.pid;
error_log $WORK/nginx.log;
events {}
http { access_log off; sendfile on; server { listen 80; root $WORK/www; } }
NGINX
    chmod 755 "$WORK" "$WORK/www"
    in_ns $T nginx -c "$WORK/nginx.conf"
    in_ns $T dnsmasq --no-resolv --no-hosts --port=53 --user=root --address=/answer.test/10.91.9.9 --pid-file="$WORK/dnsmasq.pid"
    in_ns $T $PROBE echo 10.91.3.2 7007 &
}

relay() {
    "$ADIT" init relay --dir "$WORK/relay" --endpoint 10.91.2.1:4433 >/dev/null
    sed -i 's|^allow = \[\]|allow = ["10.91.3.0/24"]|' "$WORK/relay/relay.toml"
    # Whatever the machine has: clients that move shall reach another worker.
    sed -i 's|^# workers = 0.*|workers = 4|' "$WORK/relay/relay.toml"
    ip netns exec $R "$ADIT" relay --config "$WORK/relay/relay.toml" --log info 2>"$WORK/relay.log" &
    RELAY=$!
    wait_for 10 READY "$WORK/relay.log"
}

client() {
    ADIT_STATE_DIR="$WORK/state" ip netns exec $C "$ADIT" connect "$WORK/relay/relay.bundle" --json \
        --socks 127.0.0.1:1080 --forward-udp 127.0.0.1:5353=10.91.3.2:53 --forward-udp 127.0.0.1:7007=10.91.3.2:7007 \
        --forward-tcp 127.0.0.1:8080=10.91.3.2:80 >"$WORK/events" 2>"$WORK/client.log" &
    CLIENT=$!
    wait_for 10 '"event":"connected"' "$WORK/events"
}

download() { # extra curl arguments
    local got
    got=$(in_ns $C curl -sS --fail --max-time 150 --socks5-hostname 127.0.0.1:1080 "$@" http://10.91.3.2/big | sha256sum)
    [ "$got" = "$SUM" ] || { echo "the checksum differs"; return 1; }
}

download_over_rebind() {
    (sleep 1; nat_rebind "$1") &
    download --limit-rate 60M
}

datagrams_over_rebind() {
    (sleep 1; nat_rebind "$1") &
    in_ns $C $PROBE send 127.0.0.1 7007 10000 --seconds 4 --lose 0.03
}

resolve() { [ "$(in_ns $C dig +short +time=3 @127.0.0.1 -p 5353 answer.test)" = 10.91.9.9 ]; }
forbidden() { ! in_ns $C curl -sS --max-time 10 --socks5-hostname 127.0.0.1:1080 http://10.91.2.1/ ; }
forward_tcp() { in_ns $C curl -sS --fail --max-time 20 -o /dev/null -r 0-99999 http://127.0.0.1:8080/big; }
socks_udp() { in_ns $C $PROBE socks 127.0.0.1 1080 10.91.3.2 7007; }
forwarded() { in_ns $R curl -sS --fail http://127.0.0.1:9464/metrics | sed -n 's/^adit_forwarded_total //p'; }
# Three ports in four lead to another worker.
handed_over() {
    local try
    for try in $(seq 10); do
        nat_rebind $((40000 + 100 * try))-$((40099 + 100 * try))
        resolve || { echo "no answer at port $try"; return 1; }
        [ "$(forwarded)" -gt 0 ] && return 0
    done
    echo "nothing was handed over"; return 1
}
metrics() { in_ns $R curl -sS --fail http://127.0.0.1:9464/metrics | grep '^adit_' >/dev/null; }

# UDP tunnels are open: the relay waits for them until the client ends.
drains() {
    kill -TERM "$RELAY"
    sleep 1
    kill -0 "$RELAY" || { echo "the relay cut its tunnels"; return 1; }
    kill "$CLIENT"
    wait "$RELAY"
}

targets
relay
client
check "the client says connected, with all its keys" python3 -c '
import json, sys
first = json.loads(open(sys.argv[1]).readline())
need = "event relay_id handshake_ms resumed rtt_ms path_mtu carrier socks tun".split()
missing = [key for key in need if key not in first]
assert not missing, missing
assert first["event"] == "connected" and first["handshake_ms"] < 1000, first' "$WORK/events"
check "256 MiB through SOCKS5 with the right checksum" download
check "a DNS query through --forward-udp" resolve
check "10,000 datagrams through --forward-udp" in_ns $C $PROBE send 127.0.0.1 7007 10000 --seconds 3 --lose 0.01
check "UDP ASSOCIATE through SOCKS5" socks_udp
check "a download through --forward-tcp" forward_tcp
check "a forbidden target is refused" forbidden
check "256 MiB while the NAT gives the client another port" download_over_rebind 30000-34999
check "10,000 datagrams while the NAT gives the client another port" datagrams_over_rebind 35000-39999
check "a client that moves is followed to its worker" handed_over
loss 2
check "256 MiB with 2 % loss" download
check "a DNS query with 2 % loss" resolve
no_loss
check "metrics" metrics
check "SIGTERM drains and ends with 0" drains
if [ "$FAILED" != 0 ]; then
    echo "--- relay"; tail -n 40 "$WORK/relay.log"
    echo "--- client"; tail -n 40 "$WORK/client.log"; tail -n 5 "$WORK/events"
fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
