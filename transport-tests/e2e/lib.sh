# Namespaces and small helpers for the end-to-end tests. Sourced by run.sh, failover.sh, fairness.sh, vpn.sh and nat.sh.
#
#   client (10.91.1.2) -- nat (10.91.1.1 | 10.91.2.2) -- relay (10.91.2.1 | 10.91.3.1) -- target (10.91.3.2)
#
# The NAT hides the client; the target is reached through the relay only.

E2E=${E2E:-adit-e2e}
C=$E2E-client N=$E2E-nat R=$E2E-relay T=$E2E-target
WORK=$(mktemp -d)
PASSED=0 FAILED=0

in_ns() { ip netns exec "$@"; }

down() {
    local ns
    for ns in $C $N $R $T; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
    rm -rf "$WORK"
}

link() { # ns-a address-a ns-b address-b
    local a="v$RANDOM" b="w$RANDOM"
    ip link add "$a" netns "$1" type veth peer name "$b" netns "$3"
    ip -n "$1" addr add "$2" dev "$a"
    ip -n "$3" addr add "$4" dev "$b"
    ip -n "$1" link set "$a" up
    ip -n "$3" link set "$b" up
}

up() {
    local ns
    for ns in $C $N $R $T; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
    done
    link $C 10.91.1.2/24 $N 10.91.1.1/24
    link $N 10.91.2.2/24 $R 10.91.2.1/24
    link $R 10.91.3.1/24 $T 10.91.3.2/24
    ip -n $C route add default via 10.91.1.1
    in_ns $N sysctl -qw net.ipv4.ip_forward=1
    nat_ports 20000-29999
}

# The client's traffic leaves from these ports from now on; a NAT that has forgotten.
nat_ports() {
    in_ns $N nft -f - <<NFT
table ip nat
delete table ip nat
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat;
        ip saddr 10.91.1.0/24 ip protocol { tcp, udp } masquerade to :$1
    }
}
NFT
}

nat_rebind() { nat_ports "$1" && in_ns $N conntrack -F >/dev/null 2>&1; }

# Random loss of this many percent in both directions between client and relay.
loss() {
    in_ns $N nft -f - <<NFT
table inet lossy
delete table inet lossy
table inet lossy {
    chain forward {
        type filter hook forward priority 0;
        numgen random mod 100 < $1 drop
    }
}
NFT
}

no_loss() { in_ns $N nft delete table inet lossy 2>/dev/null || true; }

wait_for() { # seconds pattern file
    local end=$((SECONDS + $1))
    until grep -q "$2" "$3" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { echo "waited $1 s for '$2' in $3:"; cat "$3"; return 1; }
        sleep 0.1
    done
}

check() { # name command...
    local name=$1 begin=$SECONDS
    shift
    if "$@" >"$WORK/check.log" 2>&1; then
        PASSED=$((PASSED + 1))
        echo "ok      $name ($((SECONDS - begin)) s)"
    else
        FAILED=$((FAILED + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$WORK/check.log"
    fi
}
