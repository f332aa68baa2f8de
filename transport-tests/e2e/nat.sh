#!/usr/bin/env bash
# A small internet with two private networks, each behind a NAT of a chosen kind. Sourced by scripts that need one
# (nat_up, nat_kind, nat_cut ...); run by itself it proves that each NAT is what its name says.
#
#   client A 192.168.1.2 -- nat A (192.168.1.1 | 44.0.1.2) --+               +-- relay  44.0.3.2
#                                                            +-- internet ---+
#   client B 192.168.2.2 -- nat B (192.168.2.1 | 44.0.2.2) --+   44.0.x.1    +-- prober 44.0.4.2, 44.0.4.3
#
# Kinds, in the words of RFC 4787 and RFC 5780 §4 (mapping, filtering), all made by nftables and conntrack alone:
#   full-cone           endpoint-independent, endpoint-independent
#   address-restricted  endpoint-independent, address-dependent
#   port-restricted     endpoint-independent, address- and port-dependent
#   symmetric           address- and port-dependent, address- and port-dependent
# No kind keeps a port (outer ones are 10000-29999, below those that Linux gives to sockets): who guesses it finds nobody.
#
# Needs root, iproute2, nftables, conntrack and python3. Two runs at once need different prefixes (E2E).

E2E=${E2E:-adit-nat}
. "${BASH_SOURCE[0]%/*}/lib.sh"
KINDS="full-cone address-restricted port-restricted symmetric"
CA=$E2E-ca CB=$E2E-cb NA=$E2E-na NB=$E2E-nb NET=$E2E-net R=$E2E-relay P=$E2E-prober
RELAY_IP=44.0.3.2 PROBER_IP=44.0.4.2 PROBER_OTHER_IP=44.0.4.3

nat_down() {
    local ns
    for ns in $CA $CB $NA $NB $NET $R $P; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
    rm -rf "$WORK"
}

nat_needs() { # tool...
    local tool
    for tool in ip nft conntrack python3 "$@"; do
        command -v "$tool" >/dev/null || { echo "$0: $tool is missing; these tests are never skipped" >&2; exit 1; }
    done
    [ "$(id -u)" = 0 ] || { echo "$0: needs root for network namespaces" >&2; exit 1; }
}

cable() { # ns-a device-a address-a ns-b device-b address-b
    ip link add "$2" netns "$1" type veth peer name "$5" netns "$4"
    ip -n "$1" addr add "$3" dev "$2"
    ip -n "$4" addr add "$6" dev "$5"
    ip -n "$1" link set dev "$2" up
    ip -n "$4" link set dev "$5" up
}

nat_up() {
    local ns
    # What a killed run left goes, and whatever ends this one takes its network along.
    nat_down
    WORK=$(mktemp -d)
    trap nat_down EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for ns in $CA $CB $NA $NB $NET $R $P; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
    done
    cable $CA uplink 192.168.1.2/24 $NA lan 192.168.1.1/24
    cable $CB uplink 192.168.2.2/24 $NB lan 192.168.2.1/24
    cable $NA wan 44.0.1.2/24 $NET a 44.0.1.1/24
    cable $NB wan 44.0.2.2/24 $NET b 44.0.2.1/24
    cable $R uplink $RELAY_IP/24 $NET relay 44.0.3.1/24
    cable $P uplink $PROBER_IP/24 $NET prober 44.0.4.1/24
    ip -n $P addr add $PROBER_OTHER_IP/24 dev uplink
    ip -n $CA route add default via 192.168.1.1
    ip -n $CB route add default via 192.168.2.1
    ip -n $NA route add default via 44.0.1.1
    ip -n $NB route add default via 44.0.2.1
    ip -n $R route add default via 44.0.3.1
    ip -n $P route add default via 44.0.4.1
    for ns in $NA $NB $NET; do in_ns $ns sysctl -qw net.ipv4.ip_forward=1; done
}

# How a NAT of this kind chooses the outer port (mapping), and whom it lets in (filtering). Conntrack alone lets in the one
# address and port that was written to; kinds that let in more look the inner address up by the outer port.
nat_mapping() {
    case $1 in
        symmetric) echo "masquerade to :10000-29999 fully-random" ;;
        # Later flows of an inner address and port get the outer port of the first.
        *) echo "masquerade to :10000-29999" ;;
    esac
}

nat_filtering() {
    case $1 in
        full-cone) echo "dnat ip to udp dport map @inner" ;;
        address-restricted) echo "ip saddr . udp dport @written dnat ip to udp dport map @inner" ;;
    esac
}

# From now on the NAT is of this kind, and has forgotten everything.
nat_kind() { # ns kind
    case " $KINDS " in *" $2 "*) ;; *) echo "no such kind of NAT: $2" >&2; return 1 ;; esac
    in_ns "$1" sysctl -qw net.netfilter.nf_conntrack_udp_timeout=120 net.netfilter.nf_conntrack_udp_timeout_stream=120
    in_ns "$1" nft -f - <<NFT
table ip nat
delete table ip nat
table ip nat {
    # Outer port to inner address and port; and who was written to from an outer port.
    map inner {
        type inet_service : ipv4_addr . inet_service
        flags dynamic, timeout
        timeout 120s
        size 65535
    }
    set written {
        type ipv4_addr . inet_service
        flags dynamic, timeout
        timeout 120s
        size 65535
    }
    chain inbound {
        type nat hook prerouting priority dstnat;
        iifname wan $(nat_filtering "$2")
    }
    chain outbound {
        type nat hook postrouting priority srcnat;
        oifname wan ip protocol { tcp, udp } $(nat_mapping "$2")
        oifname wan masquerade
    }
    # After the translation: the outer port is known. A flow that began outside is answered in the reply direction.
    chain learn {
        type filter hook postrouting priority srcnat + 10;
        oifname != wan return
        ip protocol != udp return
        update @written { ip daddr . udp sport }
        ct direction original update @inner { udp sport : ct original ip saddr . ct original proto-src }
        ct direction reply update @inner { udp sport : ct reply ip saddr . ct reply proto-src }
    }
    # What nobody asked for dies here unconfirmed. As a connection to the NAT itself it would hold the outer port against the
    # client's own packet to the same peer, which would then leave by another port: no hole could be punched.
    chain unasked {
        type filter hook input priority filter;
        iifname wan ct state new drop
    }
}
NFT
    nat_forget "$1"
}

# The NAT loses every mapping, as one that restarts.
nat_forget() { # ns
    in_ns "$1" conntrack -F >/dev/null 2>&1
    in_ns "$1" nft flush map ip nat inner
    in_ns "$1" nft flush set ip nat written
}

# Between the two NATs nothing passes (or nothing that matches); both still reach the relay.
nat_cut() { # [match]
    in_ns $NET nft -f - <<NFT
table ip cut
delete table ip cut
table ip cut {
    chain forward {
        type filter hook forward priority filter;
        ip saddr 44.0.1.0/24 ip daddr 44.0.2.0/24 ${1:-} drop
        ip saddr 44.0.2.0/24 ip daddr 44.0.1.0/24 ${1:-} drop
    }
}
NFT
}

nat_heal() { in_ns $NET nft delete table ip cut 2>/dev/null || true; }

# What theory says of two NATs: two mappings that nobody can know, or one of them against a filter that needs the port.
nat_theory() { # kind kind
    case $1/$2 in
        symmetric/symmetric | symmetric/port-restricted | port-restricted/symmetric) echo relayed ;;
        *) echo direct ;;
    esac
}

# A relay of adit at RELAY_IP, its files in $WORK/relay.
nat_relay() { # adit
    "$1" init relay --dir "$WORK/relay" --endpoint $RELAY_IP:4433 >/dev/null
    ip netns exec $R "$1" relay --config "$WORK/relay/relay.toml" --log info 2>"$WORK/relay.log" &
    # It ends with its namespace, and nobody need hear of it.
    disown
    wait_for 10 READY "$WORK/relay.log"
}

# ---- the self-test

PROBE="python3 ${BASH_SOURCE[0]%/*}/nat_probe.py"

are_both() { # kind
    local one=0 other=0
    nat_kind $NA "$1"
    nat_kind $NB "$1"
    in_ns $CB $PROBE kind "$1" $PROBER_IP $PROBER_OTHER_IP &
    in_ns $CA $PROBE kind "$1" $PROBER_IP $PROBER_OTHER_IP || one=$?
    wait $! || other=$?
    [ $one = 0 ] && [ $other = 0 ]
}

# Two clients that know no more than what the prober tells them of each other.
punches() { # kind-a kind-b
    local one=0 other=0 room=$RANDOM
    nat_kind $NA "$1"
    nat_kind $NB "$2"
    in_ns $CB $PROBE punch $room "$(nat_theory "$1" "$2")" $PROBER_IP >"$WORK/b" 2>&1 &
    in_ns $CA $PROBE punch $room "$(nat_theory "$1" "$2")" $PROBER_IP || one=$?
    wait $! || other=$?
    cat "$WORK/b"
    [ $one = 0 ] && [ $other = 0 ]
}

cut_and_healed() {
    nat_cut
    ! punches full-cone full-cone || { echo "a cut network carries packets"; return 1; }
    nat_heal
    punches full-cone full-cone
}

hidden() { ! in_ns $P ping -c 1 -W 1 192.168.1.2; }

nat_self_test() {
    local a b
    nat_needs ping
    nat_up
    in_ns $P $PROBE serve $PROBER_IP $PROBER_OTHER_IP >"$WORK/prober.log" 2>&1 &
    disown
    wait_for 10 READY "$WORK/prober.log"
    for a in $KINDS; do
        check "both NATs are $a" are_both "$a"
    done
    for a in $KINDS; do
        for b in $KINDS; do
            check "$a to $b: $(nat_theory "$a" "$b")" punches "$a" "$b"
        done
    done
    check "a cut between the NATs, and healed" cut_and_healed
    check "private addresses are not reached from outside" hidden
    echo "$PASSED passed, $FAILED failed"
    [ "$FAILED" = 0 ]
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    nat_self_test
fi
