#!/usr/bin/env bash
# Other people's stacks between two clients of one relay, each behind a symmetric NAT, where they could not meet by themselves:
#
#   ice   aioice from PyPI, as it comes: its sockets are SOCKS5 associations of `adit connect --socks`, by an event loop of ours
#   quic  quinn, as it comes: its sockets are BoundUdp of transport-api; a handshake, 10 MB each way, a close
#
#   sudo transport-tests/peers/foreign.sh [--no-build] [ice] [quic]
#
# Says what it measured, one JSON object each; exits with 1 when something failed. Needs root, nftables, conntrack, openssl,
# python3, and PyPI for the first run. CARGO is what builds (cargo).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
E2E=${E2E:-adit-foreign}
. transport-tests/e2e/nat.sh

BUILD=1 WHAT=
for argument in "$@"; do
    case $argument in
        --no-build) BUILD=0 ;;
        ice | quic) WHAT="$WHAT $argument" ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
WHAT=${WHAT:-ice quic}
TARGET=${CARGO_TARGET_DIR:-}
ADIT=${ADIT:-${TARGET:-$root/target}/release/adit}
BOUND=${TARGET:-$here/target}/release/peer-bound
VENV=${TARGET:-$root/target}/foreign/venv
PYTHON=$VENV/bin/python

build() {
    local cargo=${CARGO:-cargo}
    $cargo build --release --locked -p adit
    case $WHAT in *quic*) (cd "$here" && $cargo build --release --locked -p peer-bound) ;; esac
}

install() {
    [ -x "$PYTHON" ] || python3 -m venv "$VENV"
    "$PYTHON" -c 'import aioice' 2>/dev/null || "$PYTHON" -m pip install -q --disable-pip-version-check aioice==0.13.0
}

# ---- ICE

socks() { # client-ns name
    ADIT_STATE_DIR="$WORK/state-$2" ip netns exec "$1" "$ADIT" connect "$WORK/relay/relay.bundle" --json \
        --socks 127.0.0.1:1080 >"$WORK/events-$2" 2>"$WORK/client-$2.log" &
    disown
    wait_for 10 '"event":"connected"' "$WORK/events-$2"
}

# Two agents; what the controlling one says. Extra arguments for both.
agents() {
    local code=0
    rm -rf "$WORK/meet"
    mkdir "$WORK/meet"
    in_ns $CB "$PYTHON" "$here/ice/agent.py" controlled "$WORK/meet" $PROBER_IP 3478 "$@" >"$WORK/far.log" 2>&1 &
    local far=$!
    in_ns $CA "$PYTHON" "$here/ice/agent.py" controlling "$WORK/meet" $PROBER_IP 3478 "$@" >"$WORK/near.log" 2>&1 || code=$?
    kill $far 2>/dev/null || true
    wait $far 2>/dev/null || true
    cat "$WORK/near.log" "$WORK/far.log"
    return $code
}

over_socks() { agents --socks 127.0.0.1:1080; }

# Without the relay the same agents must not meet, or the NATs prove nothing.
alone() { ! agents --most-s 4; }

ice() {
    in_ns $P "$PYTHON" "$here/ice/stun_server.py" $PROBER_IP 3478 >"$WORK/stun.log" 2>&1 &
    disown
    wait_for 10 READY "$WORK/stun.log"
    socks $CA a
    socks $CB b
    check "ICE agents without us do not meet" alone
    check "ICE agents over SOCKS5 UDP ASSOCIATE meet, and 5,000 datagrams come back" over_socks
    echo "ice  $(cat "$WORK/near.log")"
}

# ---- QUIC

certificate() { # directory
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
        -keyout "$1/key.pem" -out "$1/cert.pem" 2>"$WORK/openssl.log"
}

quic_between() {
    local code=0 server
    in_ns $CB "$BOUND" server "$WORK/relay/relay.bundle" --meet "$WORK/quic" >"$WORK/server.log" 2>&1 &
    server=$!
    in_ns $CA "$BOUND" client "$WORK/relay/relay.bundle" --meet "$WORK/quic" >"$WORK/quic.json" || code=$?
    [ $code = 0 ] || kill $server 2>/dev/null || true
    wait $server || code=$?
    cat "$WORK/quic.json" "$WORK/server.log"
    return $code
}

quic() {
    mkdir "$WORK/quic"
    certificate "$WORK/quic"
    check "QUIC over BoundUdp: a handshake, 10 MB each way, a close" quic_between
    echo "quic $(cat "$WORK/quic.json")"
}

nat_needs openssl
[ $BUILD = 0 ] || build
case $WHAT in *ice*) install ;; esac
nat_up
nat_kind $NA symmetric
nat_kind $NB symmetric
nat_relay "$ADIT"
for one in $WHAT; do $one; done
if [ "$FAILED" != 0 ]; then echo "--- relay"; tail -n 30 "$WORK/relay.log"; fi
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
