//! Message heads: pseudo-header fields and the rules about them (RFC 9114 §4.2 to §4.4, RFC 9220).

use super::code::{Code, Fault};
use super::fields::{self, Field};
use super::frame;

const MALFORMED: Fault = Fault::Stream(Code::MESSAGE_ERROR);

/// Fields that speak about an HTTP/1.1 connection and make a message malformed (RFC 9114 §4.2).
const CONNECTION_FIELDS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// `:method`
    pub method: String,
    /// `:scheme`; absent in classic CONNECT.
    pub scheme: Option<String>,
    /// `:authority`
    pub authority: Option<String>,
    /// `:path`; absent in classic CONNECT.
    pub path: Option<String>,
    /// `:protocol` of extended CONNECT (RFC 9220).
    pub protocol: Option<String>,
    /// Ordinary fields in order.
    pub fields: Vec<Field>,
}

impl RequestHead {
    /// Classic CONNECT to `authority` (RFC 9114 §4.4).
    pub fn connect(authority: impl Into<String>) -> Self {
        Self {
            method: "CONNECT".into(),
            authority: Some(authority.into()),
            ..Self::default()
        }
    }

    /// Extended CONNECT to a resource of the proxy (RFC 9220), with the capsule protocol in use (RFC 9297 §3.4).
    pub fn extended(protocol: &str, authority: &str, path: &str) -> Self {
        Self {
            method: "CONNECT".into(),
            scheme: Some("https".into()),
            authority: Some(authority.into()),
            path: Some(path.into()),
            protocol: Some(protocol.into()),
            fields: vec![Field::new("capsule-protocol", "?1")],
        }
    }

    /// Appends the HEADERS frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_with(&[], out);
    }

    /// Appends the HEADERS frame with `more` fields behind those of the head.
    pub fn put_with(&self, more: &[Field], out: &mut Vec<u8>) {
        let pseudo = [
            (":method", Some(&self.method)),
            (":scheme", self.scheme.as_ref()),
            (":authority", self.authority.as_ref()),
            (":path", self.path.as_ref()),
            (":protocol", self.protocol.as_ref()),
        ];
        let pseudo = pseudo
            .iter()
            .filter_map(|&(name, value)| Some((name, value?.as_str())));
        put_head(pseudo, self.fields.iter().chain(more), out);
    }

    /// Reads the payload of a HEADERS frame.
    pub fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let (pseudo, fields) = split(fields::decode(payload)?)?;
        let mut head = Self {
            fields,
            ..Self::default()
        };
        let mut method = None;
        for field in pseudo {
            let slot = match field.name.as_str() {
                ":method" => &mut method,
                ":scheme" => &mut head.scheme,
                ":authority" => &mut head.authority,
                ":path" => &mut head.path,
                ":protocol" => &mut head.protocol,
                _ => return Err(MALFORMED),
            };
            if slot.replace(field.value).is_some() {
                return Err(MALFORMED);
            }
        }
        head.method = method.ok_or(MALFORMED)?;
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), Fault> {
        let present = |part: &Option<String>| part.as_ref().is_some_and(|p| !p.is_empty());
        let whole = present(&self.scheme) && present(&self.path);
        let well_formed = match (self.method.as_str(), &self.protocol) {
            ("CONNECT", None) => present(&self.authority) && self.scheme.is_none() && self.path.is_none(),
            ("CONNECT", Some(protocol)) => whole && present(&self.authority) && !protocol.is_empty(),
            (_, Some(_)) => false,
            (method, None) => whole && !method.is_empty(),
        };
        if well_formed { Ok(()) } else { Err(MALFORMED) }
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// `:status`, 100..=999.
    pub status: u16,
    /// Ordinary fields in order.
    pub fields: Vec<Field>,
}

impl ResponseHead {
    /// A response without fields.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
        }
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push(Field::new(name, value));
        self
    }

    /// Whether another response follows (1xx).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether the request succeeded (2xx).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Appends the HEADERS frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let status = self.status.to_string();
        put_head([(":status", status.as_str())].into_iter(), &self.fields, out);
    }

    /// Reads the payload of a HEADERS frame.
    pub fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let (pseudo, fields) = split(fields::decode(payload)?)?;
        let status = match pseudo.as_slice() {
            [Field { name, value }] if name == ":status" => parse_status(value).ok_or(MALFORMED)?,
            _ => return Err(MALFORMED),
        };
        Ok(Self { status, fields })
    }
}

fn parse_status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    let status = if digits { text.parse().ok()? } else { return None };
    // 101 exists only in HTTP/1.1 (RFC 9114 §4.5).
    (status >= 100 && status != 101).then_some(status)
}

fn put_head<'a>(
    pseudo: impl Iterator<Item = (&'a str, &'a str)>,
    fields: impl IntoIterator<Item = &'a Field>,
    out: &mut Vec<u8>,
) {
    let mut section = Vec::with_capacity(128);
    let ordinary = fields.into_iter().map(|f| (f.name.as_str(), f.value.as_str()));
    fields::encode(pseudo.chain(ordinary), &mut section);
    frame::put(out, frame::kind::HEADERS, &section);
}

/// Pseudo-header fields, which must come first, and ordinary ones.
fn split(fields: Vec<Field>) -> Result<(Vec<Field>, Vec<Field>), Fault> {
    let (mut pseudo, mut ordinary) = (Vec::new(), Vec::new());
    for field in fields {
        if field.name.starts_with(':') {
            if !ordinary.is_empty() {
                return Err(MALFORMED);
            }
            pseudo.push(field);
        } else {
            check_field(&field)?;
            ordinary.push(field);
        }
    }
    Ok((pseudo, ordinary))
}

fn check_field(field: &Field) -> Result<(), Fault> {
    let name_ok = !field.name.is_empty()
        && field
            .name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b':');
    let value_ok = !field.value.contains(['\0', '\r', '\n']);
    let alien =
        CONNECTION_FIELDS.contains(&field.name.as_str()) || field.name == "te" && field.value != "trailers";
    if name_ok && value_ok && !alien {
        Ok(())
    } else {
        Err(MALFORMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V24 and V25: RFC 9298's example as this profile writes it.
    const REQUEST: &str = "0140650000cfd7500b6578616d706c652e6f726751262f2e77656c6c2d6b6e6f776e2f6d61737175652f7564702f\
        3139322e302e322e362f3434332f27023a70726f746f636f6c0b636f6e6e6563742d756470270963617073756c652d70726f746f636f\
        6c023f31";
    const RESPONSE: &str = "01180000d9270963617073756c652d70726f746f636f6c023f31";

    fn hex(text: &str) -> Vec<u8> {
        let digit = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn example_request_byte_for_byte() {
        let head = RequestHead::extended(
            "connect-udp",
            "example.org",
            "/.well-known/masque/udp/192.0.2.6/443/",
        );
        let mut out = Vec::new();
        head.put(&mut out);
        assert_eq!(out, hex(REQUEST));
        assert_eq!(out.len(), 104);
        assert_eq!(RequestHead::parse(&out[3..]), Ok(head));
    }

    #[test]
    fn example_response_byte_for_byte() {
        let head = ResponseHead::new(200).with("capsule-protocol", "?1");
        let mut out = Vec::new();
        head.put(&mut out);
        assert_eq!(out, hex(RESPONSE));
        assert_eq!(ResponseHead::parse(&out[2..]), Ok(head));
    }

    fn request(list: &[(&str, &str)]) -> Result<RequestHead, Fault> {
        let mut section = Vec::new();
        fields::encode(list.iter().copied(), &mut section);
        RequestHead::parse(&section)
    }

    #[test]
    fn rules_of_requests() {
        let connect = (":method", "CONNECT");
        assert!(request(&[connect, (":authority", "a:1")]).is_ok());
        assert!(
            request(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                ("te", "trailers")
            ])
            .is_ok()
        );
        let malformed: [&[(&str, &str)]; 12] = [
            &[],
            &[connect],
            &[connect, (":authority", "")],
            &[connect, (":authority", "a:1"), (":path", "/")],
            &[connect, (":authority", "a:1"), (":authority", "a:1")],
            &[connect, (":authority", "a:1"), (":status", "200")],
            &[connect, ("x", "y"), (":authority", "a:1")],
            &[connect, (":authority", "a:1"), ("Upper", "y")],
            &[connect, (":authority", "a:1"), ("connection", "close")],
            &[connect, (":authority", "a:1"), ("x", "a\r\nb")],
            &[connect, (":authority", "a:1"), (":protocol", "connect-udp")],
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":protocol", "connect-udp"),
            ],
        ];
        for list in malformed {
            assert_eq!(request(list), Err(MALFORMED), "{list:?}");
        }
    }

    #[test]
    fn rules_of_responses() {
        let response = |list: &[(&str, &str)]| {
            let mut section = Vec::new();
            fields::encode(list.iter().copied(), &mut section);
            ResponseHead::parse(&section)
        };
        assert!(response(&[(":status", "100")]).expect("interim").is_interim());
        let malformed: [&[(&str, &str)]; 7] = [
            &[],
            &[("x", "y")],
            &[(":status", "20")],
            &[(":status", "+20")],
            &[(":status", "101")],
            &[(":status", "099")],
            &[(":status", "200"), (":status", "200")],
        ];
        for list in malformed {
            assert_eq!(response(list), Err(MALFORMED), "{list:?}");
        }
    }
}
