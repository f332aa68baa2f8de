//! `Proxy-Public-Address` (draft §7): where packets for a bind request may be sent to.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ADDRESS_FIELD;
use crate::http::Field;

/// Addresses that are written or read at most.
pub const MAX_ADDRESSES: usize = 8;

/// The field is missing, empty, or no list of strings that are addresses with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress;

/// The field with the first [`MAX_ADDRESSES`] of `addresses`; there must be one at least.
pub fn field(addresses: &[SocketAddr]) -> Field {
    let mut value = String::new();
    for (index, address) in addresses.iter().take(MAX_ADDRESSES).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let port = address.port();
        // Writing to a string cannot fail.
        let _ = match address.ip() {
            IpAddr::V4(ip) => write!(value, "{comma}\"{ip}:{port}\""),
            IpAddr::V6(ip) => write!(value, "{comma}\"[{ip}]:{port}\""),
        };
    }
    Field::new(ADDRESS_FIELD, value)
}

/// The addresses of a response, in its order. The lines of the field make one list (RFC 9651 §4.2); parameters, of which none is
/// defined, are passed over.
pub fn parse(fields: &[Field]) -> Result<Vec<SocketAddr>, BadAddress> {
    let lines = fields.iter().filter(|field| field.name == ADDRESS_FIELD);
    let mut addresses = Vec::new();
    for line in lines {
        take_list(&line.value, &mut addresses)?;
    }
    if addresses.is_empty() {
        return Err(BadAddress);
    }
    Ok(addresses)
}

fn take_list(line: &str, addresses: &mut Vec<SocketAddr>) -> Result<(), BadAddress> {
    let mut rest = line.trim_matches(' ');
    if rest.is_empty() {
        // An empty line adds nothing to a list.
        return Ok(());
    }
    loop {
        let text = rest.strip_prefix('"').ok_or(BadAddress)?;
        let (text, after) = text.split_once('"').ok_or(BadAddress)?;
        if addresses.len() == MAX_ADDRESSES {
            return Err(BadAddress);
        }
        addresses.push(address(text).ok_or(BadAddress)?);
        rest = skip_parameters(after)?.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Ok(());
        }
        rest = rest
            .strip_prefix(',')
            .ok_or(BadAddress)?
            .trim_start_matches([' ', '\t']);
    }
}

/// No address has a character that a string would escape, so what has a backslash is none.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let ip: IpAddr = match host.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
        None => host.parse::<Ipv4Addr>().ok()?.into(),
    };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| digits && port > 0)?;
    Some(SocketAddr::new(ip, port))
}

/// What follows the parameters of an item (RFC 9651 §4.2.3.2): their values may be strings.
fn skip_parameters(mut rest: &str) -> Result<&str, BadAddress> {
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start_matches(' ');
        if !parameter.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            return Err(BadAddress);
        }
        let key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
        rest = parameter.trim_start_matches(key);
        if let Some(value) = rest.strip_prefix('=') {
            rest = skip_value(value)?;
        }
    }
    Ok(rest)
}

fn skip_value(value: &str) -> Result<&str, BadAddress> {
    let Some(string) = value.strip_prefix('"') else {
        let rest = value.trim_start_matches(|c: char| c.is_ascii_graphic() && !";,\"".contains(c));
        return if rest.len() < value.len() {
            Ok(rest)
        } else {
            Err(BadAddress)
        };
    };
    let mut escaped = false;
    for (at, byte) in string.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return string.get(at + 1..).ok_or(BadAddress),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Err(BadAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[&str]) -> Vec<Field> {
        lines
            .iter()
            .map(|&line| Field::new(ADDRESS_FIELD, line))
            .collect()
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let two = addresses(&["192.0.2.45:54321", "[2001:db8::1234]:54321"]);
        let written = field(&two);
        assert_eq!(written.value, r#""192.0.2.45:54321", "[2001:db8::1234]:54321""#);
        assert_eq!(parse(&[written]), Ok(two));
        let many = vec![SocketAddr::from(([192, 0, 2, 1], 1)); 20];
        assert_eq!(parse(&[field(&many)]), Ok(many[..MAX_ADDRESSES].to_vec()));
        let scoped = std::net::SocketAddrV6::new("fe80::1".parse().expect("ip"), 9, 1, 2);
        assert_eq!(field(&[scoped.into()]).value, r#""[fe80::1]:9""#);
    }

    #[test]
    fn lines_make_one_list_and_parameters_are_passed_over() {
        let lines = [
            r#"  "192.0.2.1:1" ,"192.0.2.2:2";a;b="x\"\\,";*c=?1"#,
            r#""[::1]:65535"  "#,
        ];
        assert_eq!(
            parse(&fields(&lines)),
            Ok(addresses(&["192.0.2.1:1", "192.0.2.2:2", "[::1]:65535"]))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parse(&[]), Err(BadAddress), "missing");
        let nine = [r#""192.0.2.1:1""#; 9].join(", ");
        for bad in [
            "",
            "192.0.2.1:1",
            r#""192.0.2.1:1"#,
            r#""192.0.2.1:1","#,
            r#""192.0.2.1:1" "192.0.2.1:2""#,
            r#""192.0.2.1:1",, "192.0.2.1:2""#,
            r#""192.0.2.1:0""#,
            r#""192.0.2.1:65536""#,
            r#""192.0.2.1:+1""#,
            r#""192.0.2.1""#,
            r#""192.0.2.01:1""#,
            r#""2001:db8::1:1""#,
            r#""[192.0.2.1]:1""#,
            r#""[fe80::1%eth0]:1""#,
            r#""[fe80::1%1]:1""#,
            r#""example.org:1""#,
            r#""192.0.2.1\:1""#,
            r#"("192.0.2.1:1")"#,
            r#""192.0.2.1:1";A"#,
            r#""192.0.2.1:1";a="#,
            r#""192.0.2.1:1";a="x"#,
            r#""192.0.2.1:1";a="x\""#,
            &nine,
        ] {
            assert_eq!(parse(&fields(&[bad])), Err(BadAddress), "{bad}");
        }
    }

    #[test]
    fn no_field_panics() {
        arbtest::arbtest(|u| {
            let text: &str = u.arbitrary()?;
            let _ = parse(&fields(&[text, &format!("\"192.0.2.1:1\";{text}")]));
            Ok(())
        });
    }
}
