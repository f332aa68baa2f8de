#!/usr/bin/env python3
"""Holds packets for a fixed time: what the kernel routes into the first TUN device leaves the second that much later.

delay_line.py IN OUT MILLISECONDS makes both devices in this namespace, prints READY, and runs until it is killed.
One direction only; order is kept.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "up", "txqueuelen", "10000"], check=True)
    return device


def main():
    first, second, delay = tun(sys.argv[1]), tun(sys.argv[2]), float(sys.argv[3]) / 1000
    held = collections.deque()
    print("READY", flush=True)
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            os.write(second, held.popleft()[1])
        wait = max(held[0][0] - now, 0) if held else None
        if not select.select([first], [], [], wait)[0]:
            continue
        due = time.monotonic() + delay
        try:
            while True:
                held.append((due, os.read(first, 65536)))
        except BlockingIOError:
            pass


main()
