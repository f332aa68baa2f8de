"""UDP echo server, sender that counts echoes, and a SOCKS5 UDP ASSOCIATE client."""
import argparse, socket, struct, sys, threading, time

WINDOW = 64
LOST_AFTER = 1.0


def echo(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind((host, port))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


def send(host, port, count, seconds, lose):
    """At an even rate, with at most WINDOW on the way: a machine that pauses must not make its own sockets overflow."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.connect((host, port))
    seen, sent_at = set(), {}
    news = threading.Condition()
    done = threading.Event()

    def listen():
        s.settimeout(0.1)
        while not done.is_set():
            try:
                data = s.recv(65536)
            except socket.timeout:
                continue
            number = struct.unpack("!I", data[:4])[0]
            assert data[4:] == bytes([number & 255]) * 600, "an echo is not what was sent"
            with news:
                seen.add(number)
                sent_at.pop(number, None)
                news.notify()

    def on_the_way():
        # What is missing for so long is lost, and waited for no more.
        limit = time.monotonic() - LOST_AFTER
        for number in [number for number, at in sent_at.items() if at < limit]:
            del sent_at[number]
        return len(sent_at)

    listener = threading.Thread(target=listen)
    listener.start()
    start = time.monotonic()
    for number in range(count):
        with news:
            while on_the_way() >= WINDOW:
                news.wait(0.05)
            sent_at[number] = time.monotonic()
        s.send(struct.pack("!I", number) + bytes([number & 255]) * 600)
        behind = start + number * seconds / count - time.monotonic()
        if behind > 0:
            time.sleep(behind)
    with news:
        while on_the_way():
            news.wait(0.05)
    done.set()
    listener.join()
    print(f"{len(seen)} of {count} came back")
    return len(seen) >= count * (1 - lose)


def socks(proxy, proxy_port, host, port):
    control = socket.create_connection((proxy, proxy_port), timeout=5)
    control.sendall(b"\x05\x01\x00")
    assert control.recv(2) == b"\x05\x00"
    control.sendall(b"\x05\x03\x00\x01\0\0\0\0\0\0")
    reply = control.recv(10)
    assert reply[:2] == b"\x05\x00", reply
    relay = (socket.inet_ntoa(reply[4:8]), struct.unpack("!H", reply[8:10])[0])
    if relay[0] == "0.0.0.0":
        relay = (proxy, relay[1])
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    header = b"\0\0\0\x01" + socket.inet_aton(host) + struct.pack("!H", port)
    for number in range(50):
        s.sendto(header + b"probe%d" % number, relay)
        data, _ = s.recvfrom(65536)
        assert data == header + b"probe%d" % number, data
    return True


p = argparse.ArgumentParser()
p.add_argument("what", choices=["echo", "send", "socks"])
p.add_argument("rest", nargs="*")
p.add_argument("--seconds", type=float, default=3)
p.add_argument("--lose", type=float, default=0)
a = p.parse_args()
if a.what == "echo":
    echo(a.rest[0], int(a.rest[1]))
elif a.what == "send":
    sys.exit(0 if send(a.rest[0], int(a.rest[1]), int(a.rest[2]), a.seconds, a.lose) else 1)
else:
    sys.exit(0 if socks(a.rest[0], int(a.rest[1]), a.rest[2], int(a.rest[3])) else 1)
