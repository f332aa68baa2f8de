"""A steady TCP stream whose every byte is known, and a reader that tells the longest silence in a window of it, beside that before."""
import argparse, os, socket, sys, time

CHUNK = 16384


def block(number):
    return number.to_bytes(8, "big") * (CHUNK // 8)


def serve(host, port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(8)
    while True:
        c, _ = s.accept()
        if os.fork() == 0:
            seconds = int.from_bytes(c.recv(1), "big")
            begin, number = time.monotonic(), 0
            # A block every five milliseconds: 3 MB/s.
            while number < seconds * 200:
                c.sendall(block(number))
                number += 1
                behind = begin + number * 0.005 - time.monotonic()
                if behind > 0:
                    time.sleep(behind)
            c.close()
            os._exit(0)
        c.close()


def watch(host, port, seconds, most_ms, begin_s, end_s):
    s = socket.create_connection((host, port), timeout=20)
    s.sendall(bytes([seconds]))
    have, number, at, gap, when, own = b"", 0, None, 0.0, 0.0, 0.0
    begin = time.monotonic()
    while True:
        data = s.recv(1 << 16)
        now = time.monotonic()
        if not data:
            break
        # Machines pause of themselves, too: what began before the window is nobody's fault.
        if at is not None and at - begin < begin_s:
            own = max(own, now - at)
        elif at is not None and at - begin <= end_s and now - at > gap:
            gap, when = now - at, at - begin
        at, have = now, have + data
        while len(have) >= CHUNK:
            assert have[:CHUNK] == block(number), f"block {number} is not what was sent"
            have, number = have[CHUNK:], number + 1
    assert not have and number == seconds * 200, f"{number} blocks of {seconds * 200} came"
    print(
        f"{number} blocks, the longest silence {gap * 1000:.1f} ms, {when:.2f} s after the start,"
        f" where this machine's own are {own * 1000:.1f} ms"
    )
    return (gap - own) * 1000 <= most_ms


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["serve", "watch"])
    p.add_argument("host")
    p.add_argument("port", type=int)
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--most-ms", type=float, default=1000)
    p.add_argument("--from", dest="begin", type=float, default=0)
    p.add_argument("--to", dest="end", type=float, default=1e9)
    a = p.parse_args()
    if a.what == "serve":
        serve(a.host, a.port)
    sys.exit(0 if watch(a.host, a.port, a.seconds, a.most_ms, a.begin, a.end) else 1)
