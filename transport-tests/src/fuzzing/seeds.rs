//! Inputs to begin with: valid messages of every kind, and random programs.

use transport_api::http::{Field, RequestHead, ResponseHead, Settings, frame};
use transport_api::masque::{Target, Template, capsule, udp};
use transport_core::wire::frame::{
    AckFrequency, Close, ControlData, ControlKind, Datagram, Frame, NewTicket, NumberedAddress,
    PathRetireConnectionId, PunchMeNow, Stream,
};
use transport_core::wire::{ConnectionId, TransportParameters};
use transport_crypto::TICKET_LEN;

use super::{bind, ip, tickets};
use crate::house::root;
use crate::misbehave::{Raw, encode, generous};
use crate::pair::RELAY;
use crate::sim::rng::Rng;

/// Seeds of one target; none for a name that is no target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "params" => params(),
        "frames" => frames(),
        "packets_up" | "packets_down" => packets(),
        "capsules" => capsules(),
        "http" => http(),
        "templates" => templates(),
        "bind" => [bind::seeds(), random(target, 80, 200)].concat(),
        "ip" => [ip::seeds(), random(target, 60, 300)].concat(),
        "scenario" => scenarios(),
        "bundle" => bundles(),
        "tickets" => [vec![tickets::stored()], random(target, 20, 100)].concat(),
        "envelope" | "hellos" => random(target, 40, 300),
        "strangers" | "acks" | "streams" | "programs" => random(target, 400, 800),
        _ => Vec::new(),
    }
}

fn random(target: &str, count: u64, most: u64) -> Vec<Vec<u8>> {
    let one = |seed| {
        let mut rng = Rng::new(seed, target);
        let length = rng.below(most) + 1;
        (0..length).map(|_| rng.u64() as u8).collect()
    };
    (0..count).map(one).collect()
}

fn params() -> Vec<Vec<u8>> {
    [TransportParameters::default(), generous()]
        .iter()
        .map(|params| {
            let mut bytes = Vec::new();
            params.encode(&mut bytes).expect("parameters that fit");
            bytes
        })
        .collect()
}

/// One frame of each kind.
fn frames_of_streams() -> Vec<Frame<'static>> {
    let stream = |id, offset, fin| {
        Frame::Stream(Stream {
            id,
            offset,
            data: b"hello",
            fin,
        })
    };
    vec![
        stream(0, 0, false),
        stream(0, 5, true),
        stream(1, 0, true),
        stream(2, 700, true),
        stream(3, 1 << 20, false),
        Frame::ResetStream {
            id: 0,
            code: 3,
            final_size: 10,
        },
        Frame::StopSending { id: 1, code: 3 },
        Frame::MaxData { max: 1 << 30 },
        Frame::MaxStreamData { id: 1, max: 1 << 20 },
        Frame::MaxStreams { uni: true, max: 500 },
        Frame::DataBlocked { at: 1 << 14 },
        Frame::StreamDataBlocked { id: 0, at: 100 },
        Frame::StreamsBlocked { uni: false, at: 256 },
    ]
}

fn frames_of_the_connection() -> Vec<Frame<'static>> {
    vec![
        Frame::Padding { len: 9 },
        Frame::Ping,
        Frame::HandshakeDone,
        Frame::ImmediateAck,
        Frame::AckFrequency(AckFrequency {
            sequence: 0,
            threshold: 9,
            delay_us: 20_000,
            reordering: 3,
        }),
        Frame::PathChallenge([7; 8]),
        Frame::PathResponse([7; 8]),
        Frame::Datagram(Datagram { data: b"a message" }),
        Frame::PathRetireConnectionId(PathRetireConnectionId { path: 0, sequence: 1 }),
        Frame::ObservedAddress(NumberedAddress {
            sequence: 1,
            address: ([11, 0, 0, 1], 4433).into(),
        }),
        Frame::AddAddress(NumberedAddress {
            sequence: 1,
            address: ([11, 0, 0, 1], 4433).into(),
        }),
        Frame::PunchMeNow(PunchMeNow {
            round: 1,
            path: 1,
            address: ([11, 0, 0, 1], 4433).into(),
        }),
        Frame::RemoveAddress { sequence: 1 },
        Frame::ControlData(ControlData {
            kind: ControlKind::Bundle,
            message: 0,
            total: 8,
            offset: 0,
            data: b"12345678",
        }),
        Frame::Close(Close {
            code: 10,
            frame_type: Some(8),
            reason: b"because",
        }),
        Frame::Close(Close {
            code: 1,
            frame_type: None,
            reason: b"",
        }),
    ]
}

fn each_frame() -> Vec<Vec<u8>> {
    let frames = frames_of_streams().into_iter().chain(frames_of_the_connection());
    let mut all: Vec<Vec<u8>> = frames.map(|frame| encode(&[frame])).collect();
    let new_id = transport_core::wire::frame::PathNewConnectionId {
        path: 0,
        sequence: 3,
        retire_prior_to: 2,
        cid: ConnectionId([5; 9]),
    };
    all.push(encode(&[Frame::PathNewConnectionId(new_id)]));
    all.push(Raw::ack(0, 3));
    all.push(encode(&[Frame::NewTicket(NewTicket {
        serial: 1,
        lifetime_s: 3600,
        max_early: 4096,
        ticket: &[6; TICKET_LEN],
    })]));
    all
}

fn frames() -> Vec<Vec<u8>> {
    let mut all = each_frame();
    all.push(all.concat());
    all.extend(random("frames", 10, 200));
    all
}

/// Steps of `packets.rs`: a kind, then its fields.
fn packets() -> Vec<Vec<u8>> {
    let say = |frames: &[u8]| [&[0, frames.len() as u8], frames].concat();
    let each: Vec<Vec<u8>> = each_frame().iter().map(|frame| say(frame)).collect();
    let mut all = each.clone();
    for kind in 8..20 {
        // Between two packets of streams, every other step.
        let step = [kind, 3, 40, 2, 200];
        all.push([&each[3][..], &step, &each[4], &step, &each[1]].concat());
    }
    all.push(each.concat());
    all.extend(random("packets", 60, 600));
    all
}

fn capsules() -> Vec<Vec<u8>> {
    let mut one = Vec::new();
    capsule::put(&mut one, 0, b"\0payload");
    capsule::put(&mut one, 0x1234, b"");
    capsule::put(&mut one, 0, &[0; 200]);
    let mut all = vec![
        one,
        udp::datagram(Vec::new(), 3, b"datagram"),
        vec![0x40, 0x19, 1, 2],
        vec![0xc0; 20],
    ];
    all.extend(random("capsules", 10, 150));
    all
}

fn http() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        // With and without the frame header: the heads are parsed from payloads.
        all.push(out.get(2..).unwrap_or_default().to_vec());
        all.push(out.get(3..).unwrap_or_default().to_vec());
        all.push(out);
    };
    let target = Target::new("example.com", 443).expect("a target");
    let path = Template::relay().expand(&target);
    let requests = [
        RequestHead::connect(target.to_string()),
        RequestHead::extended("connect-udp", "relay.example", &path),
    ];
    for request in requests {
        add(&|out| request.put(out));
    }
    for status in [200, 404, 502] {
        add(&|out| {
            let mut head = ResponseHead::new(status);
            head.fields.push(Field::new("capsule-protocol", "?1"));
            head.fields.push(Field::new(
                "proxy-status",
                "adit; error=dns_timeout; details=\"none\"",
            ));
            head.put(out);
        });
    }
    let settings = Settings {
        extended_connect: true,
        datagrams: true,
        max_field_section: Some(16_384),
    };
    add(&|out| settings.put(out));
    add(&|out| frame::put(out, frame::kind::DATA, b"data"));
    all.push(b"adit; error=connection_refused; details=\"a \\\"quoted\\\" word\"".to_vec());
    all.push(b"other; received-status=200, adit; error=dns_error; rcode=\"NXDOMAIN\"".to_vec());
    all.extend(random("http", 20, 150));
    all
}

fn templates() -> Vec<Vec<u8>> {
    let texts = [
        "https://relay.example/.well-known/masque/udp/{target_host}/{target_port}/",
        "https://relay.example/masque?h={target_host}&p={target_port}",
        "https://relay.example:8443/masque{?target_host,target_port}",
        "https://relay.example/{+target_host}/{#target_port}{&x}",
        "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/",
        "example.com:443",
        "[2001:db8::1]:80",
        "192.0.2.1",
        "a-b.example.",
    ];
    texts
        .iter()
        // The template property maps bytes onto printable characters, the others take the text as it is.
        .flat_map(|text| {
            [
                text.bytes().map(|byte| byte - 32).collect(),
                text.as_bytes().to_vec(),
            ]
        })
        .collect()
}

fn scenarios() -> Vec<Vec<u8>> {
    let folder = root().join("transport-tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the scenarios")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

fn bundles() -> Vec<Vec<u8>> {
    let good = RELAY.bundle.bytes();
    let mut all = vec![good.to_vec(), good[..3300].to_vec(), good[3236..].to_vec()];
    let number = |value: u64| value.to_be_bytes();
    let names = [&[0, 0, 1, 187, 10, 0, 0, 1][..], &[2, 7, 0, 80], b"a.b-c_d"].concat();
    all.push([&number(7)[..], &number(1_767_225_600), &number(86_400), &names].concat());
    all.extend(random("bundle", 20, 100));
    all
}
