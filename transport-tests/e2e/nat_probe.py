"""What a NAT does, found out as RFC 5780 §4 describes, by packets of our own; and a hole punched through two of them.

serve A1 A2       answers on both addresses, two ports each, from whichever of the four a request names
kind KIND A1 A2   exits with 0 when the NAT on the way is of this kind
punch ROOM direct|relayed A1
                  meets another one in the same room of the server, and exits with 0 when the two could speak as foretold
"""
import json, selectors, socket, sys, time

PORTS = (3478, 3479)
KINDS = {
    # mapping, filtering: on what of the other end each depends
    "full-cone": ("endpoint", "endpoint"),
    "address-restricted": ("endpoint", "address"),
    "port-restricted": ("endpoint", "port"),
    "symmetric": ("port", "port"),
}
WAIT = 0.3
PUNCHING = 2.0


def udp(host=""):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, 0) if isinstance(host, str) else host)
    return s


def put(s, to, **message):
    s.sendto(json.dumps(message).encode(), to)


def get(s, until):
    """The next message and its source, or nothing when the time is over."""
    while (left := until - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            data, source = s.recvfrom(2048)
        except socket.timeout:
            break
        except ConnectionError:
            continue
        return json.loads(data), source
    return None, None


def serve(hosts):
    sockets = {(i, j): udp((host, port)) for i, host in enumerate(hosts) for j, port in enumerate(PORTS)}
    rooms = {}
    select = selectors.DefaultSelector()
    for s in sockets.values():
        select.register(s, selectors.EVENT_READ)
    print("READY", flush=True)
    while True:
        for key, _ in select.select():
            data, source = key.fileobj.recvfrom(2048)
            message = json.loads(data)
            if "room" in message:
                there = rooms.setdefault(message["room"], {})
                there[message["me"]] = source
                if len(there) == 2:
                    for one, other in zip(there.values(), reversed(there.values())):
                        put(key.fileobj, one, peer=other)
                continue
            answerer = sockets[tuple(message["from"])] if "from" in message else key.fileobj
            put(answerer, tuple(message.get("to", source)), id=message["id"], seen=source)


def ask(s, to, **more):
    """Where the server saw us, or nothing: three times, so that one lost packet is no verdict."""
    for attempt in range(3):
        number = time.monotonic_ns()
        put(s, to, id=number, **more)
        until = time.monotonic() + WAIT
        while True:
            message, source = get(s, until)
            if message is None:
                break
            if message.get("id") == number:
                return tuple(message["seen"]), source
    return None, None


def mapping(a1, a2):
    """RFC 5780 §4.3: one socket, seen from three places."""
    s = udp()
    first, _ = ask(s, (a1, PORTS[0]))
    again, _ = ask(s, (a1, PORTS[0]))
    address, _ = ask(s, (a2, PORTS[0]))
    port, _ = ask(s, (a2, PORTS[1]))
    assert first and again and address and port, "the prober is not reached"
    assert first == again, f"seen as {first}, then as {again} by the same server"
    assert first[1] != s.getsockname()[1], f"the port {first[1]} was kept"
    other, _ = ask(udp(), (a1, PORTS[0]))
    assert other != first, "two sockets have one mapping"
    if first == address == port:
        return "endpoint"
    return "address" if address == port else "port"


def answered(s, to, at):
    """Whether a packet of the server's socket `at` arrives through the mapping that writing to `to` made."""
    _, source = ask(s, to, **{"from": at})
    return source is not None


def filtering(a1, a2):
    """RFC 5780 §4.4: a fresh socket for each test, since every packet opens the filter a little."""
    first = (a1, PORTS[0])
    assert answered(udp(), first, (0, 0)), "the prober is not reached"
    if answered(udp(), first, (1, 1)):
        return "endpoint"
    if answered(udp(), first, (0, 1)):
        return "address"
    s = udp()
    refused = not answered(s, first, (0, 1))
    assert refused and ask(s, (a1, PORTS[1]))[0], "written to, and still shut"
    return "port"


def undisturbed(a1, a2):
    """A packet that was refused leaves nothing behind: the mapping towards its sender is the one that others see."""
    s = udp()
    first, _ = ask(s, (a1, PORTS[0]))
    answered(s, (a1, PORTS[0]), (1, 1))
    later, _ = ask(s, (a2, PORTS[1]))
    return first == later


def kind(name, a1, a2):
    found = (mapping(a1, a2), filtering(a1, a2))
    print(f"mapping depends on: {found[0]}, filtering on: {found[1]}; wanted {KINDS[name]}")
    assert found == KINDS[name], f"this NAT is not {name}"
    assert found[0] == "port" or undisturbed(a1, a2), "a refused packet changed the mapping"


def punch(room, foretold, server):
    """Writes to the address the server names and to whatever address the peer is heard from, until both have heard."""
    s = udp()
    me, peer, until = time.monotonic_ns(), None, time.monotonic() + 10
    while peer is None:
        assert time.monotonic() < until, "nobody came"
        put(s, (server, PORTS[0]), room=room, me=me)
        message, _ = get(s, time.monotonic() + 0.1)
        # The other one may be quicker, and its packets here before the server's.
        if message and "peer" in message:
            peer = tuple(message["peer"])
    targets, heard, both = {peer}, False, None
    begun = time.monotonic()
    while (now := time.monotonic()) < begun + PUNCHING and (both is None or now < both + 0.3):
        for target in targets:
            put(s, target, heard=heard)
        message, source = get(s, now + 0.05)
        if message and "heard" in message:
            targets.add(source)
            heard = True
            both = both or (time.monotonic() if message["heard"] else None)
    outcome = "direct" if both else "relayed"
    print(f"{outcome} after {(both or time.monotonic()) - begun:.3f} s; foretold: {foretold}")
    assert outcome == foretold


what, rest = sys.argv[1], sys.argv[2:]
try:
    {"serve": lambda *hosts: serve(hosts), "kind": kind, "punch": punch}[what](*rest)
except AssertionError as wrong:
    sys.exit(f"nat_probe: {wrong}")
