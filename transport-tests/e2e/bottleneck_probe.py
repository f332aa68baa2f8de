#!/usr/bin/env python3
"""Watches a bottleneck: how full its queue is, and what crosses it by whom.

bottleneck_probe.py DEVICE RATE_MBIT FROM_S TO_S, in the namespace of DEVICE, whose root queue is a tbf and where nft has
counters `ours` and `theirs` in the table `inet shares`. Prints one JSON object. `used` is the share of the rate in the
time the machine ran: a virtual machine whose host takes a processor away (`stolen`) has no link meanwhile either.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time


def run(*command):
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def crossed():
    listed = run("nft", "-j", "list", "counters", "table", "inet", "shares")["nftables"]
    counters = (entry["counter"] for entry in listed if "counter" in entry)
    return {counter["name"]: counter["bytes"] for counter in counters}


def stolen():
    """Seconds the host has kept each processor from us (proc(5), the eighth column)."""
    lines = (line.split() for line in open("/proc/stat"))
    return [int(line[8]) / os.sysconf("SC_CLK_TCK") for line in lines if re.fullmatch(r"cpu\d+", line[0])]


def main():
    device, rate, begin, end = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    start = time.monotonic()
    time.sleep(begin)
    before, robbed, since, delays = crossed(), stolen(), time.monotonic(), []
    while time.monotonic() - start < end:
        backlog = run("tc", "-s", "-j", "qdisc", "show", "dev", device)[0]["backlog"]
        delays.append(backlog * 8 / (rate * 1000))
        time.sleep(0.05)
    after, took = crossed(), time.monotonic() - since
    mbit = {name: (after[name] - before[name]) * 8e-6 / took for name in after}
    total = sum(mbit.values())
    missing = max(now - then for now, then in zip(stolen(), robbed)) / took
    delays.sort()
    print(
        json.dumps(
            {
                "ours_mbit": round(mbit["ours"], 1),
                "theirs_mbit": round(mbit["theirs"], 1),
                "ours_share": round(mbit["ours"] / total, 3) if total else 0,
                "used": round(total / rate / (1 - missing), 3),
                "stolen": round(missing, 3),
                "queue_ms_mean": round(statistics.mean(delays), 1),
                "queue_ms_p95": round(delays[int(len(delays) * 0.95)], 1),
            }
        )
    )


main()
