"""One of two ICE agents (aioice, as it comes): meets the other through files in DIR, then sends it numbered datagrams.

agent.py controlling|controlled DIR STUN-HOST STUN-PORT [--socks HOST:PORT] [--count N] [--most-s S]

The controlling one counts what comes back and prints one JSON object. Exits with 1 when the two do not meet within S seconds."""
import argparse, asyncio, json, os, statistics, struct, sys, time

import aioice

from socks_loop import SocksLoop

SIZE = 1000
# Datagrams on the way at a time, and how long one may take.
WINDOW, LATE = 32, 2.0


def publish(path, agent):
    offer = {
        "user": agent.local_username,
        "password": agent.local_password,
        "candidates": [candidate.to_sdp() for candidate in agent.local_candidates],
    }
    with open(path + ".new", "w") as out:
        json.dump(offer, out)
    os.rename(path + ".new", path)


async def learn(path, agent):
    while not os.path.exists(path):
        await asyncio.sleep(0.02)
    with open(path) as given:
        offer = json.load(given)
    agent.remote_username, agent.remote_password = offer["user"], offer["password"]
    for line in offer["candidates"]:
        await agent.add_remote_candidate(aioice.Candidate.from_sdp(line))
    await agent.add_remote_candidate(None)


def payload(number):
    return struct.pack("!I", number) + bytes([0x80 | number & 0x7F]) * (SIZE - 4)


async def echo(agent):
    while True:
        await agent.send(await agent.recv())


async def measure(agent, count):
    """Echoes that came back, and their round trips in seconds."""
    sent, trips = {}, []

    async def listen():
        while len(trips) < count:
            data = await agent.recv()
            (number,) = struct.unpack("!I", data[:4])
            assert data == payload(number), "an echo is not what was sent"
            if number in sent:
                trips.append(time.monotonic() - sent.pop(number))

    listener = asyncio.create_task(listen())
    for number in range(count):
        while sum(time.monotonic() - at < LATE for at in sent.values()) >= WINDOW and not listener.done():
            await asyncio.sleep(0.0005)
        sent[number] = time.monotonic()
        await agent.send(payload(number))
    await asyncio.wait([listener], timeout=LATE)
    if listener.done():
        listener.result()
    listener.cancel()
    return trips


async def run(options):
    controlling = options.role == "controlling"
    mine, other = ("a", "b") if controlling else ("b", "a")
    agent = aioice.Connection(ice_controlling=controlling, stun_server=(options.stun, options.port), use_ipv6=False)
    begun = time.monotonic()
    await agent.gather_candidates()
    gathered = time.monotonic()
    publish(os.path.join(options.dir, mine), agent)
    await learn(os.path.join(options.dir, other), agent)
    met = time.monotonic()
    try:
        await asyncio.wait_for(agent.connect(), options.most_s)
    except (ConnectionError, TimeoutError) as wrong:
        return f"the agents did not meet: {wrong or 'in time'}"
    connected = time.monotonic()
    if not controlling:
        try:
            await echo(agent)
        except ConnectionError:
            return None
    trips = await measure(agent, options.count)
    candidates = [f"{c.type} {c.host}:{c.port}" for c in agent.local_candidates]
    await agent.close()
    print(json.dumps({
        "candidates": candidates,
        "gather_ms": round((gathered - begun) * 1e3),
        "connect_ms": round((connected - met) * 1e3),
        "sent": options.count,
        "returned": len(trips),
        "rtt_ms": round(statistics.median(trips) * 1e3, 3) if trips else None,
    }))
    return None if len(trips) >= 0.99 * options.count else "echoes are missing"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("role", choices=["controlling", "controlled"])
    p.add_argument("dir")
    p.add_argument("stun")
    p.add_argument("port", type=int)
    p.add_argument("--socks", type=lambda text: (text.rsplit(":", 1)[0], int(text.rsplit(":", 1)[1])))
    p.add_argument("--count", type=int, default=5000)
    p.add_argument("--most-s", type=float, default=10)
    options = p.parse_args()
    factory = (lambda: SocksLoop(options.socks)) if options.socks else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        sys.exit(runner.run(run(options)))


main()
