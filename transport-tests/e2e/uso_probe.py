#!/usr/bin/env python3
"""Bursts of UDP that the kernel cuts late (UDP_SEGMENT) and joins early (UDP_GRO).

uso_probe.py send HOST PORT      sends 40 bursts of 20 datagrams of 1,200 bytes
uso_probe.py receive HOST PORT   prints READY, then in how many reads they came; fails unless each came once and whole
"""

import socket
import struct
import sys
import time

UDP_SEGMENT, UDP_GRO, SO_RCVBUFFORCE = 103, 104, 33
BURSTS, IN_BURST, SIZE = 40, 20, 1200


def datagram(number):
    return struct.pack("!I", number) + bytes([number % 251]) * (SIZE - 4)


def send(udp, address):
    udp.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    for burst in range(BURSTS):
        numbers = range(burst * IN_BURST, (burst + 1) * IN_BURST)
        udp.sendto(b"".join(map(datagram, numbers)), address)
        time.sleep(0.01)


def receive(udp, address):
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    udp.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
    udp.settimeout(10)
    udp.bind(address)
    print("READY", flush=True)
    missing, reads = set(range(BURSTS * IN_BURST)), 0
    while missing:
        data = udp.recv(65536)
        reads += 1
        for at in range(0, len(data), SIZE):
            piece = data[at : at + SIZE]
            (number,) = struct.unpack("!I", piece[:4])
            assert piece == datagram(number), f"{number} is not what was sent"
            missing.remove(number)
    print(f"{BURSTS * IN_BURST} datagrams in {reads} reads")
    assert reads < BURSTS * IN_BURST / 2, "they came one by one"


def main():
    what, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        {"send": send, "receive": receive}[what](udp, (host, port))


main()
