//! The vectors of the design, delivered whole, byte by byte, cut anywhere, and two in one write.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::*;
use crate::http::Field;
use crate::masque::{datagram as native, is_true};

/// One end that has a target (`false`: `*`), and reads with `reader` what comes.
struct End {
    contexts: Contexts,
    reader: BindCapsules,
    log: Vec<String>,
}

#[derive(Clone, Copy)]
struct Setup {
    role: Role,
    dialect: Dialect,
    any: bool,
}

const PROXY: Setup = Setup {
    role: Role::Proxy,
    dialect: Dialect::Current,
    any: false,
};
const CLIENT: Setup = Setup {
    role: Role::Client,
    ..PROXY
};
const ANY: Setup = Setup { any: true, ..PROXY };
const OLDER: Setup = Setup {
    dialect: Dialect::Older,
    ..PROXY
};
const OLDER_CLIENT: Setup = Setup {
    dialect: Dialect::Older,
    ..CLIENT
};

impl End {
    fn new(setup: Setup) -> Self {
        let Setup { role, dialect, any } = setup;
        Self {
            contexts: Contexts::new(role, dialect, any, Limits::default()),
            reader: BindCapsules::new(role, dialect, any, 1500),
            log: Vec::new(),
        }
    }

    /// A line of a vector. `open`, `close`: what this end does; `<`: bytes of the stream, cut by `cut`; `~`: a native datagram of
    /// stream 44; `fin`: the stream ends.
    fn step(&mut self, line: &str, cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<(), BindFault> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "open" => {
                let target = (rest != "*").then(|| rest.parse().expect(rest));
                self.contexts.open(target).expect("may be opened");
            }
            "close" => assert!(self.contexts.close(rest.parse().expect(rest))),
            "<" => {
                for piece in cut(&hex(rest)) {
                    self.read(&piece)?;
                }
            }
            "~" => {
                let whole = hex(rest);
                let (quarter, payload) = native::split(&whole).expect("a datagram");
                assert_eq!(quarter, 11);
                let (context, bytes) = datagram::parse(payload)?;
                self.receive(context, bytes)?;
            }
            "fin" => self.reader.finish()?,
            _ => panic!("{line}"),
        }
        self.flush();
        Ok(())
    }

    fn read(&mut self, mut input: &[u8]) -> Result<(), BindFault> {
        while let Some(item) = self.reader.next(&mut input)? {
            match item {
                BindItem::WrapUp => self.log.push("wrap up".into()),
                BindItem::Datagram { context, bytes } => self.receive(context, &bytes)?,
                BindItem::Capsule(capsule) => {
                    if let Some(change) = self.contexts.on_capsule(capsule, |_| true)? {
                        self.log.push(show(change));
                    }
                }
            }
        }
        assert!(input.is_empty(), "what is not an item is kept");
        Ok(())
    }

    fn receive(&mut self, context: u64, bytes: &[u8]) -> Result<(), BindFault> {
        self.log.push(match self.contexts.receive(context, bytes)? {
            Received::Udp(bytes) => format!("udp {}", to_hex(bytes)),
            Received::Peer(peer, bytes) => format!("{peer} {}", to_hex(bytes)),
            dropped => format!("{dropped:?}"),
        });
        Ok(())
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.contexts.take_outgoing(&mut out);
        if !out.is_empty() {
            self.log.push(format!("> {}", to_hex(&out)));
        }
    }
}

fn show(change: Change) -> String {
    let tuple = |assign: Assign| {
        let target = assign
            .target
            .map_or_else(|| "*".to_owned(), |peer| peer.to_string());
        format!("{} {target}", assign.context)
    };
    let (word, assign, replaces) = match change {
        Change::Opened { assign, replaces } => ("opened", assign, replaces),
        Change::Refused { assign, replaces } => ("refused", assign, replaces),
        Change::Accepted(assign) => ("accepted", assign, None),
        Change::Closed(assign) => ("closed", assign, None),
    };
    let replaced = replaces.map_or_else(String::new, |own| format!(" for {own}"));
    format!("{word} {}{replaced}", tuple(assign))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect(text) as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What an end makes of the lines; a fault is the last entry.
fn run(setup: Setup, lines: &[&str], cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) -> String {
    let mut end = End::new(setup);
    for line in lines {
        if let Err(fault) = end.step(line, cut) {
            end.log.push(format!("{fault:?}!"));
            break;
        }
    }
    end.log.join("; ")
}

/// Number, end, what happens, and what must come of it.
type Vector = (&'static str, Setup, &'static [&'static str], &'static str);

const VALID: &[Vector] = &[
    ("V1", PROXY, &["< 00050070696e67"], "udp 70696e67"),
    ("V2", PROXY, &["~ 0b0070696e67"], "udp 70696e67"),
    ("V3", PROXY, &["< 400040050070696e67"], "udp 70696e67"),
    ("V4", PROXY, &["< 0006400070696e67"], "udp 70696e67"),
    ("V5", PROXY, &["< 000100"], "udp "),
    (
        "V6",
        PROXY,
        &["< 1708a1a2a3a4a5a6a7a8 00050070696e67"],
        "udp 70696e67",
    ),
    ("V7", PROXY, &["< 11020200"], "opened 2 *; > 120102"),
    (
        "V8",
        CLIENT,
        &["open *", "< 120102", "< 130102"],
        "> 11020200; accepted 2 *; closed 2 *",
    ),
    (
        "V9",
        PROXY,
        &["< 11080404cb00710bea60"],
        "opened 4 203.0.113.11:60000; > 120104",
    ),
    (
        "V10",
        CLIENT,
        &["open *", "< 11080104c000022ac350"],
        "> 11020200; opened 1 192.0.2.42:50000; > 120101",
    ),
    (
        "V11",
        PROXY,
        &["< 1114060620010db800000000000000000000123401bb"],
        "opened 6 [2001:db8::1234]:443; > 120106",
    ),
    (
        "V12",
        PROXY,
        &["< 1109404004c00002010035"],
        "opened 64 192.0.2.1:53; > 12024040",
    ),
    (
        "V12, id in eight bytes",
        PROXY,
        &["< 110fc00000000000004004c00002010035"],
        "opened 64 192.0.2.1:53; > 12024040",
    ),
    (
        "V13",
        PROXY,
        &[
            "< 11020200",
            "~ 0b0204c000022ac35070696e67",
            "< 000c0204c000022ac35070696e67",
        ],
        "opened 2 *; > 120102; 192.0.2.42:50000 70696e67; 192.0.2.42:50000 70696e67",
    ),
    (
        "V14",
        PROXY,
        &[
            "< 11020200",
            "~ 0b020620010db800000000000000000000000101bb70696e67",
        ],
        "opened 2 *; > 120102; [2001:db8::1]:443 70696e67",
    ),
    (
        "V15",
        PROXY,
        &["< 11080404cb00710bea60", "~ 0b0470696e67", "< 00050470696e67"],
        "opened 4 203.0.113.11:60000; > 120104; 203.0.113.11:60000 70696e67; 203.0.113.11:60000 70696e67",
    ),
    ("V26", CLIENT, &["< a72dda5e00"], "wrap up"),
    ("V27", PROXY, &["< 9c0fe323080404cb00710bea60"], ""),
    (
        "V27, older",
        OLDER,
        &["< 9c0fe323080404cb00710bea60", "< 9c0fe3240104"],
        "opened 4 203.0.113.11:60000; > 9c0fe323080404cb00710bea60; closed 4 203.0.113.11:60000",
    ),
    ("V9, older", OLDER, &["< 11080404cb00710bea60"], ""),
    (
        "accepted in the older way",
        OLDER_CLIENT,
        &["open *", "< 9c0fe323020200", "close 2", "< 9c0fe323020200"],
        "> 9c0fe323020200; > 9c0fe3240102",
    ),
    (
        "X7, closed in between",
        PROXY,
        &["< 11020200", "< 130102", "< 11020800"],
        "opened 2 *; > 120102; closed 2 *; opened 8 *; > 120108",
    ),
    (
        "X10, crossing, client",
        CLIENT,
        &["open *", "open 203.0.113.11:60000", "< 11080504cb00710bea60"],
        "> 11020200; > 11080404cb00710bea60; refused 5 203.0.113.11:60000; > 130105",
    ),
    (
        "X10, crossing, proxy",
        PROXY,
        &[
            "< 11020200",
            "open 203.0.113.11:60000",
            "< 11080404cb00710bea60",
            "< 130101",
        ],
        "opened 2 *; > 120102; > 11080104cb00710bea60; opened 4 203.0.113.11:60000 for 1; > 130101120104",
    ),
    (
        "X12",
        PROXY,
        &[
            "< 11080404cb00710bea60",
            "< 130104",
            "~ 0b0470",
            "~ 0b0970",
            "< 000109",
        ],
        "opened 4 203.0.113.11:60000; > 120104; closed 4 203.0.113.11:60000; Closed; Unknown; Unknown",
    ),
    (
        "X13",
        PROXY,
        &[
            "< 11020200",
            "~ 0b02",
            "~ 0b0202",
            "~ 0b0205c000020a0035",
            "~ 0b0204c000",
            "< 00040204c000",
        ],
        "opened 2 *; > 120102; Unreadable; Unreadable; Unreadable; Unreadable; Unreadable",
    ),
    (
        "an answer to what was closed",
        CLIENT,
        &["open *", "close 2", "< 120102", "< 130102", "< 130109"],
        "> 11020200; > 130102",
    ),
    (
        "strangers are kept out",
        CLIENT,
        &["< 11080104c000022ac350"],
        "refused 1 192.0.2.42:50000; > 130101",
    ),
];

const INVALID: &[Vector] = &[
    ("X3", PROXY, &["< 11020000"], "ZeroContext!"),
    ("X4, version", PROXY, &["< 11020205"], "Malformed!"),
    (
        "X4, version with a tuple",
        PROXY,
        &["< 11080405cb00710bea60"],
        "Malformed!",
    ),
    ("X4, trailing", PROXY, &["< 11030200ff"], "Malformed!"),
    (
        "X4, trailing behind a tuple",
        PROXY,
        &["< 11090404cb00710bea6000"],
        "Malformed!",
    ),
    ("X4, cut", PROXY, &["< 11070204c000020100"], "Malformed!"),
    ("X4, empty", PROXY, &["< 1100"], "Malformed!"),
    ("X4, half an id", PROXY, &["< 110140"], "Malformed!"),
    ("X4, too long to be one", PROXY, &["< 111c"], "Malformed!"),
    ("X5, trailing", PROXY, &["< 12020200"], "Malformed!"),
    (
        "X5, never assigned",
        CLIENT,
        &["open *", "< 120104"],
        "> 11020200; NeverAssigned!",
    ),
    (
        "X5, the peer's own",
        PROXY,
        &["< 11020200", "< 120102"],
        "opened 2 *; > 120102; NeverAssigned!",
    ),
    (
        "X5, zero",
        CLIENT,
        &["open *", "< 120100"],
        "> 11020200; NeverAssigned!",
    ),
    ("X6", PROXY, &["< 130100"], "ZeroContext!"),
    ("X6, trailing", PROXY, &["< 13020200"], "Malformed!"),
    (
        "X7",
        PROXY,
        &["< 11020200", "< 11020800"],
        "opened 2 *; > 120102; Uncompressed!",
    ),
    (
        "X8",
        CLIENT,
        &["open *", "< 11020100"],
        "> 11020200; Uncompressed!",
    ),
    ("parity, proxy", PROXY, &["< 11080104c000022ac350"], "Parity!"),
    (
        "parity, client",
        CLIENT,
        &["open *", "< 11080404cb00710bea60"],
        "> 11020200; Parity!",
    ),
    (
        "X9",
        PROXY,
        &["< 11080404cb00710bea60", "< 11080404cb00710bea60"],
        "opened 4 203.0.113.11:60000; > 120104; Reused!",
    ),
    (
        "X9, closed in between",
        PROXY,
        &["< 11080404cb00710bea60", "< 130104", "< 11080404cb00710bea60"],
        "opened 4 203.0.113.11:60000; > 120104; closed 4 203.0.113.11:60000; Reused!",
    ),
    (
        "X10",
        PROXY,
        &["< 11080404cb00710bea60", "< 11080604cb00710bea60"],
        "opened 4 203.0.113.11:60000; > 120104; SameTuple!",
    ),
    ("X11", ANY, &["~ 0b0070696e67"], "NoTarget!"),
    ("X11, capsule", ANY, &["< 00050070696e67"], "NoTarget!"),
    // Longer than what is held, and not whole yet.
    ("X11, long capsule", ANY, &["< 0046000001"], "NoTarget!"),
    ("X14, any", ANY, &["< 008000fff900"], "TooLong!"),
    ("X14", PROXY, &["< 008000fff900"], "TooLong!"),
    ("X19", PROXY, &["< 000a0070696e67", "fin"], "Truncated!"),
    ("X19, assign", PROXY, &["< 110804", "fin"], "Truncated!"),
    ("X20", PROXY, &["< 0000"], "NoContext!"),
    ("X20, half an id", PROXY, &["< 000140"], "NoContext!"),
    ("X20, native", PROXY, &["~ 0b"], "NoContext!"),
    ("X20, native, half an id", PROXY, &["~ 0b40"], "NoContext!"),
    ("X25", CLIENT, &["< a72dda5e0100"], "Malformed!"),
    (
        "X25, second",
        CLIENT,
        &["< a72dda5e00", "< a72dda5e00"],
        "wrap up; WrapUp!",
    ),
    ("X25, from a client", PROXY, &["< a72dda5e00"], "WrapUp!"),
    (
        "another tuple comes back",
        OLDER_CLIENT,
        &["open *", "< 9c0fe323080204cb00710bea60"],
        "> 9c0fe323020200; Malformed!",
    ),
    (
        "never assigned, older",
        OLDER_CLIENT,
        &["< 9c0fe323020200"],
        "NeverAssigned!",
    ),
];

#[test]
fn vectors_however_they_are_cut() {
    for &(name, setup, lines, expected) in VALID.iter().chain(INVALID) {
        assert_eq!(
            run(setup, lines, &|bytes| vec![bytes.to_vec()]),
            expected,
            "{name}"
        );
        let single = |bytes: &[u8]| bytes.chunks(1).map(<[u8]>::to_vec).collect();
        assert_eq!(run(setup, lines, &single), expected, "{name}, byte by byte");
        for at in 1..24 {
            let halves = |bytes: &[u8]| {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                vec![first.to_vec(), second.to_vec()]
            };
            assert_eq!(run(setup, lines, &halves), expected, "{name}, cut at {at}");
        }
    }
}

/// All that the peer writes in one write, behind one capsule that is skipped and before another.
#[test]
fn vectors_two_in_one_write() {
    let whole = |bytes: &[u8]| vec![bytes.to_vec()];
    let silent = |log: String| {
        let entries: Vec<&str> = log.split("; ").filter(|entry| !entry.starts_with('>')).collect();
        entries.join("; ")
    };
    for &(name, setup, lines, expected) in VALID.iter().chain(INVALID) {
        let own = lines.iter().take_while(|line| line.starts_with("open"));
        let own: Vec<&str> = own.copied().collect();
        let theirs = &lines[own.len()..];
        if !theirs.iter().all(|line| line.starts_with('<')) {
            continue;
        }
        let grease = "1708a1a2a3a4a5a6a7a8";
        let written: Vec<&str> = theirs.iter().map(|line| &line[1..]).collect();
        let joined = format!("< {grease} {} {grease}", written.concat());
        let lines = [own, vec![&joined]].concat();
        assert_eq!(
            silent(run(setup, &lines, &whole)),
            silent(expected.to_owned()),
            "{name}"
        );
    }
}

#[test]
fn the_longest_payloads() {
    let payload = |context: u8, len: usize| [&[context][..], &vec![7; len]].concat();
    let mut end = End::new(PROXY);
    end.step("< 11020200 11080404cb00710bea60", &|bytes| vec![bytes.to_vec()])
        .expect("two contexts");
    let receive = |payload: &[u8]| {
        let (context, bytes) = datagram::parse(payload)?;
        end.contexts.receive(context, bytes).map(|read| match read {
            Received::Udp(bytes) | Received::Peer(_, bytes) => bytes.len(),
            _ => 0,
        })
    };
    // V23 and X14; on other contexts what is too long is dropped.
    assert_eq!(receive(&payload(0, 65_527)), Ok(65_527));
    assert_eq!(receive(&payload(0, 65_528)), Err(BindFault::TooLong));
    assert_eq!(receive(&payload(4, 65_527)), Ok(65_527));
    assert_eq!(receive(&payload(4, 65_528)), Ok(0));
    let mut named = hex("0204c000022ac350");
    named.resize(8 + 65_527, 7);
    assert_eq!(receive(&named), Ok(65_527));
    named.push(7);
    assert_eq!(receive(&named), Ok(0));
    assert_eq!(end.contexts.receive(0, &vec![7; 65_528]), Err(BindFault::TooLong));

    // In capsules nothing beyond the limit is held, be it the reader's or that of its maker.
    for (limit, len, read) in [
        (100_000, 65_546, true),
        (100_000, 65_547, false),
        (9, 9, true),
        (9, 10, false),
    ] {
        let mut wire = Vec::new();
        crate::masque::capsule::put(&mut wire, 0, &payload(2, len));
        let mut reader = BindCapsules::new(Role::Proxy, Dialect::Current, true, limit);
        let mut input = wire.as_slice();
        let item = reader.next(&mut input).expect("no fault");
        assert_eq!(item.is_some(), read, "{len} of {limit}");
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let peers: [SocketAddr; 2] = [
        "192.0.2.42:50000".parse().expect("v4"),
        "[2001:db8::1]:443".parse().expect("v6"),
    ];
    for (peer, len) in peers.into_iter().zip([datagram::V4_HEADER, datagram::V6_HEADER]) {
        assert_eq!(datagram::peer_len(peer), len);
        for context in [2, 64, varint_max_even()] {
            let mut bytes = Vec::new();
            Outgoing::Uncompressed(context).put_header(&mut bytes, peer);
            assert_eq!(bytes.len(), Outgoing::Uncompressed(context).overhead(peer));
            bytes.extend_from_slice(b"ping");
            let (read, rest) = datagram::parse(&bytes).expect("an id");
            assert_eq!(
                (read, datagram::split_peer(rest)),
                (context, Some((peer, &b"ping"[..])))
            );
            let mut bytes = Vec::new();
            Outgoing::Compressed(context).put_header(&mut bytes, peer);
            assert_eq!(bytes.len(), Outgoing::Compressed(context).overhead(peer));
            for capsule in [
                BindCapsule::Assign(Assign {
                    context,
                    target: Some(peer),
                }),
                BindCapsule::Assign(Assign {
                    context,
                    target: None,
                }),
                BindCapsule::Close(context),
                BindCapsule::Ack(context),
            ] {
                let mut wire = Vec::new();
                put_capsule(&mut wire, Dialect::Current, capsule);
                let mut reader = BindCapsules::new(Role::Proxy, Dialect::Current, true, 100);
                assert_eq!(
                    reader.next(&mut wire.as_slice()),
                    Ok(Some(BindItem::Capsule(capsule)))
                );
            }
        }
    }
}

fn varint_max_even() -> u64 {
    crate::http::varint::MAX - 1
}

#[test]
fn bind_is_one_true_boolean() {
    let fields = |values: &[&str]| -> Vec<Field> { values.iter().map(|&v| Field::new(FIELD, v)).collect() };
    assert!(is_true(&fields(&["?1"]), FIELD));
    assert!(is_true(&fields(&["?1;x"]), FIELD));
    // X22: as if absent.
    for values in [&[][..], &["?1", "?1"], &["1"], &["\"?1\""], &["?0"]] {
        assert!(!is_true(&fields(values), FIELD), "{values:?}");
    }
}

#[test]
fn ends_allocate_by_parity() {
    for (context, client, proxy) in [(0, false, false), (1, false, true), (2, true, false)] {
        assert_eq!(Role::Client.allocates(context), client, "{context}");
        assert_eq!(Role::Proxy.allocates(context), proxy, "{context}");
    }
}

#[test]
fn no_stream_panics() {
    arbtest::arbtest(|u| {
        let wire: Vec<u8> = u.arbitrary()?;
        let line = format!("< {}", to_hex(&wire));
        for setup in [PROXY, CLIENT, ANY, OLDER, OLDER_CLIENT] {
            let client = setup.role == Role::Client;
            let lines: &[&str] = if client {
                &["open *", &line, "fin"]
            } else {
                &[&line, "fin"]
            };
            let whole = run(setup, lines, &|bytes| vec![bytes.to_vec()]);
            let single = run(setup, lines, &|bytes| {
                bytes.chunks(1).map(<[u8]>::to_vec).collect()
            });
            assert_eq!(whole, single);
        }
        let _ = datagram::split_peer(&wire);
        Ok(())
    });
}
