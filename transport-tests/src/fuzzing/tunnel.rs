//! What reaches the tunnels: HTTP/3 frames and headers, capsules, URI templates.

use transport_api::http::{Field, RequestHead, ResponseHead, Settings, fields, frame, varint};
use transport_api::masque::capsule::{self, CapsuleParser, Piece};
use transport_api::masque::{ProxyStatus, Target, Template, datagram, udp};

/// Capsules as (type, value), and whether the stream may end there; `cut` says into which pieces it comes.
fn parse(data: &[u8], cut: usize) -> (Vec<(u64, u64, Vec<u8>)>, bool) {
    let mut parser = CapsuleParser::new();
    let mut read: Vec<(u64, u64, Vec<u8>)> = Vec::new();
    for mut input in data.chunks(cut) {
        while let Some(piece) = parser.next(&mut input) {
            match piece {
                Piece::Header { kind, len } => read.push((kind, len, Vec::new())),
                Piece::Chunk(chunk) => read
                    .last_mut()
                    .expect("a header before")
                    .2
                    .extend_from_slice(chunk),
                Piece::End => assert_eq!(
                    read.last().map(|(_, len, value)| *len == value.len() as u64),
                    Some(true)
                ),
            }
        }
        assert!(input.is_empty(), "what is not a piece is kept");
    }
    (read, parser.finish().is_ok())
}

/// However a sequence of capsules is cut, it reads the same.
pub fn capsules(data: &[u8]) {
    let whole = parse(data, data.len().max(1));
    for cut in [1, 2, 7] {
        assert_eq!(parse(data, cut), whole);
    }
}

/// Capsules that are written read the same.
pub fn capsules_whole(data: &[u8]) {
    let values: Vec<&[u8]> = data.chunks(37).collect();
    let mut out = Vec::new();
    for (kind, value) in values.iter().enumerate() {
        capsule::put(&mut out, kind as u64 * 1000, value);
    }
    let (read, ended) = parse(&out, 11);
    assert!(ended);
    let values = values.iter().enumerate();
    assert!(read.into_iter().eq(values.map(|(kind, value)| (
        kind as u64 * 1000,
        value.len() as u64,
        value.to_vec()
    ))));
}

/// UDP payloads in capsules: however cut the same, none longer than wanted.
pub fn udp_capsules(data: &[u8]) {
    let read = |cut: usize| {
        let mut capsules = udp::UdpCapsules::new(100);
        let mut payloads = Vec::new();
        for mut input in data.chunks(cut) {
            while let Some(payload) = capsules.next(&mut input)? {
                assert!(payload.len() <= 100);
                payloads.push(payload);
            }
        }
        capsules.finish().map(|()| payloads)
    };
    let whole = read(data.len().max(1));
    assert_eq!(read(1), whole);
    assert_eq!(read(3), whole);
    let _ = udp::parse(data);
    let quarter = data.len() as u64;
    let native = udp::datagram(Vec::new(), quarter, data);
    assert_eq!(native.len(), udp::overhead(quarter) + data.len());
    let (id, payload) = datagram::split(&native).expect("our own datagram");
    assert_eq!((id, udp::parse(payload)), (quarter, Ok(udp::Payload::Udp(data))));
}

/// Frame headers on either kind of stream get a verdict; frames that are written read the same.
pub fn http_frames(data: &[u8]) {
    if let Some((kind, rest)) = varint::take(data)
        && let Some((len, _)) = varint::take(rest)
    {
        for seen in [false, true] {
            let _ = frame::on_control(kind, len, seen);
            let _ = frame::on_request(kind, len, seen);
        }
    }
    let _ = frame::goaway_id(data);
    let mut out = Vec::new();
    frame::put(&mut out, frame::kind::DATA, data);
    let mut space = [0; frame::DATA_HEADER];
    let start = frame::data_header(data.len(), &mut space);
    assert_eq!(out, [&space[start..], data].concat());
}

/// Settings: what parses can be said, and reads the same.
pub fn http_settings(data: &[u8]) {
    let Ok(settings) = Settings::parse(data) else {
        return;
    };
    let mut out = Vec::new();
    settings.put(&mut out);
    let (_, rest) = varint::take(&out).expect("a type");
    let (len, payload) = varint::take(rest).expect("a length");
    assert_eq!(len, payload.len() as u64);
    assert_eq!(Settings::parse(payload), Ok(settings));
}

/// Field sections: what decodes can be encoded, and decodes to the same.
pub fn http_fields(data: &[u8]) {
    let Ok(read) = fields::decode(data) else { return };
    let mut out = Vec::new();
    fields::encode(
        read.iter()
            .map(|field| (field.name.as_str(), field.value.as_str())),
        &mut out,
    );
    assert_eq!(fields::decode(&out), Ok(read));
}

/// Request and response heads: what parses can be sent, and parses to the same.
pub fn http_heads(data: &[u8]) {
    let prefixed = [&[0, 0], data].concat();
    for payload in [data, &prefixed] {
        if let Ok(head) = RequestHead::parse(payload) {
            let mut out = Vec::new();
            head.put(&mut out);
            assert_eq!(RequestHead::parse(frame_payload(&out)), Ok(head));
        }
        if let Ok(head) = ResponseHead::parse(payload) {
            let mut out = Vec::new();
            head.put(&mut out);
            assert_eq!(ResponseHead::parse(frame_payload(&out)), Ok(head));
        }
    }
}

fn frame_payload(frame: &[u8]) -> &[u8] {
    let (_, rest) = varint::take(frame).expect("a type");
    let (len, payload) = varint::take(rest).expect("a length");
    assert_eq!(len, payload.len() as u64);
    payload
}

/// HTTP datagrams split where their id ends.
pub fn http_datagrams(data: &[u8]) {
    if let Ok((quarter, payload)) = datagram::split(data) {
        assert!(quarter <= datagram::MAX_QUARTER_STREAM_ID);
        assert!(data.ends_with(payload));
        let mut out = Vec::new();
        varint::put(&mut out, quarter);
        out.extend_from_slice(payload);
        assert_eq!(datagram::split(&out), Ok((quarter, payload)));
    }
}

/// Integers: minimal form, and nothing lost.
pub fn varints(data: &[u8]) {
    if let Some((value, rest)) = varint::take(data) {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        assert_eq!(
            (out.len(), varint::take(&out)),
            (varint::len(value), Some((value, &[][..])))
        );
        assert!(out.len() + rest.len() <= data.len());
    }
}

/// A template that compiles expands to a path that it recognises.
pub fn templates(data: &[u8]) {
    let text: String = data.iter().map(|byte| char::from(byte % 95 + 32)).collect();
    let around = format!("https://relay.example/{text}/{{target_host}}/{{target_port}}/");
    let query = format!("https://relay.example/{text}{{?target_host,target_port}}");
    let target = Target::new("2001:db8::1", 443).expect("a target");
    for text in [&text, &around, &query] {
        let Ok(template) = Template::parse(text) else {
            continue;
        };
        let path = template.expand(&target);
        assert_eq!(
            template.matches(&path),
            Some(Ok(target.clone())),
            "{text} gives {path}"
        );
    }
    let _ = Template::relay().matches(&text);
    let _ = Template::relay().matches(&format!("/.well-known/masque/udp/{text}/443/"));
}

/// Targets: what parses can be said, and parses to the same.
pub fn targets(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(target) = Target::from_authority(text) {
        assert_eq!(Target::from_authority(&target.to_string()), Ok(target));
    }
    if let Ok(target) = Target::new(text, 80) {
        assert_eq!(Target::from_authority(&target.to_string()), Ok(target.clone()));
        let relay = Template::relay();
        assert_eq!(relay.matches(&relay.expand(&target)), Some(Ok(target)));
    }
}

/// `Proxy-Status` fields of others are read or left.
pub fn proxy_status(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let field = Field::new("proxy-status", text);
    let Some(status) = ProxyStatus::from_fields(&[field]) else {
        return;
    };
    if let Some(error) = status.error {
        let mut said = ProxyStatus::new(error).with_details(text);
        // Its reader takes white space off the ends.
        said.details = said.details.map(|details| details.trim().to_owned());
        assert_eq!(ProxyStatus::from_fields(&[said.field("adit")]), Some(said));
    }
}
