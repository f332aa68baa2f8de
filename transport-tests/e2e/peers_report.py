"""What two peers measured, as rows of a table; exits with 1 when it is not what was wanted.

head | row KIND-A KIND-B FILE --route R | gap FILE --route R [--most-ms N] [--most-lost N]"""
import argparse, json, sys


def ms(event):
    return "" if event is None else f"{event['ms']:.1f} ms"


def read(path):
    """The first event of each name."""
    events = {}
    for line in open(path):
        event = json.loads(line)
        events.setdefault(event["event"], event)
    return events


p = argparse.ArgumentParser()
p.add_argument("what", choices=["head", "row", "gap"])
p.add_argument("rest", nargs="*")
p.add_argument("--route")
p.add_argument("--most-ms", type=int)
p.add_argument("--most-lost", type=int)
a = p.parse_args()
if a.what == "head":
    print("| A | B | ends | first datagram | direct path | lost | round trip p50 / p99 | thousands a second |")
    print("|---|---|---|---|---|---|---|---|")
    sys.exit(0)
events = read(a.rest[-1])
done, trip = events["done"], events["done"]["rtt_ms"]
if a.what == "row":
    print(f"| {a.rest[0]} | {a.rest[1]} | {done['route']} | {ms(events.get('first'))} | {ms(events.get('direct'))} | {done['lost']} of {done['sent']} "
          f"| {trip['p50']:.2f} / {trip['p99']:.2f} ms | {done['sent'] / done['seconds'] / 1000:.1f} |")
else:
    print(f"longest silence {done['longest_gap_ms']} ms, lost {done['lost']} of {done['sent']}, then {done['route']}")
# A direct path may be left again, as when the machine pauses; that it was found counts, and for a gap where it ended.
became = "direct" if a.what == "row" and "direct" in events else done["route"]
most = a.most_lost if a.most_lost is not None else done["sent"] // (100 if a.most_ms else 1000)
wrong = [
    text
    for text, is_so in [
        (f"it became {became}, not {a.route}", became != a.route),
        (f"{done['lost']} are lost, more than {most}", done["lost"] > most),
        (f"nothing came for {done['longest_gap_ms']} ms", a.most_ms is not None and done["longest_gap_ms"] > a.most_ms),
    ]
    if is_so
]
if wrong:
    print(*wrong, sep="\n", file=sys.stderr)
    print(open(a.rest[-1]).read(), file=sys.stderr)
    sys.exit(1)
