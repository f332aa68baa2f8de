//! TCP segments that fit: the maximum segment size that opening packets name, lowered in passing (RFC 9293 §3.7.1).

use super::bytes::{set_u16, u16_at};
use super::checksum::update16;
use super::extension::V6_HEADER;
use super::packet::{V4_HEADER, Version};
use super::{Malformed, Packet};

/// Bytes of a TCP header without options.
pub(crate) const TCP_HEADER: usize = 20;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Bytes of an MSS option.
const MSS_LEN: usize = 4;

/// Lowers the MSS of a TCP packet with SYN to what fits `mtu`, in bytes of a whole packet with plain headers. Nothing is ever
/// raised, and a packet without the option is left alone: its sender then assumes 536 or 1,220 bytes. So is one that is
/// malformed in any way. `true` when the packet has changed; its checksum is as right as it was.
pub fn clamp(packet: &mut [u8], mtu: u16) -> bool {
    lowered(packet, mtu).unwrap_or(false)
}

fn lowered(packet: &mut [u8], mtu: u16) -> Result<bool, Malformed> {
    let read = Packet::parse(packet)?;
    let ip = match read.version() {
        Version::V4 => V4_HEADER,
        Version::V6 => V6_HEADER,
    };
    let most = mtu.saturating_sub((ip + TCP_HEADER) as u16);
    if !read.is_tcp_syn() || most == 0 {
        return Ok(false);
    }
    let tcp_at = read.header_len();
    let tcp = packet.get_mut(tcp_at..).ok_or(Malformed)?;
    let end = header_len(tcp);
    let mut changed = false;
    // Nothing is written before all options were looked at.
    for write in [false, true] {
        let mut at = TCP_HEADER;
        while let Some((kind, next)) = option(tcp, at, end)? {
            changed |= write && kind == MSS && lower(tcp, at + 2, most);
            at = next;
        }
    }
    Ok(changed)
}

/// Length of the TCP header as it says, in bytes.
#[inline]
pub(crate) fn header_len(tcp: &[u8]) -> usize {
    tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
}

/// Kind of the option at `at`, and where the next begins; `None` where the options end.
fn option(tcp: &[u8], at: usize, end: usize) -> Result<Option<(u8, usize)>, Malformed> {
    let here = tcp.get(at..end).ok_or(Malformed)?;
    let (kind, len) = match *here {
        [] | [END, ..] => return Ok(None),
        [NO_OPERATION, ..] => (NO_OPERATION, 1),
        [kind, len, ..] => (kind, usize::from(len)),
        [_] => return Err(Malformed),
    };
    let wrong = (kind == MSS && len != MSS_LEN) || (kind != NO_OPERATION && len < 2);
    if wrong || len > here.len() {
        return Err(Malformed);
    }
    Ok(Some((kind, at + len)))
}

/// Lowers the field at `at`, which may be odd: then its bytes count for the checksum the other way round.
fn lower(tcp: &mut [u8], at: usize, most: u16) -> bool {
    let (Some(old), Some(checksum)) = (u16_at(tcp, at), u16_at(tcp, 16)) else {
        return false;
    };
    if old <= most {
        return false;
    }
    let in_words = |value: u16| if at % 2 == 1 { value.swap_bytes() } else { value };
    set_u16(tcp, at, most);
    set_u16(tcp, 16, update16(checksum, in_words(old), in_words(most)));
    true
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const SYN: u8 = 0x02;

    fn syn(is_v4: bool, flags: u8, options: &[u8]) -> Vec<u8> {
        sample::tcp(is_v4, 1, 7, flags, options, b"early")
    }

    #[test]
    fn a_syn_names_what_fits() {
        for (is_v4, mtu, mss) in [(true, 1400, 1360_u16), (false, 1400, 1340)] {
            for flags in [SYN, SYN | 0x10] {
                let mut packet = syn(is_v4, flags, &[2, 4, 5, 0xb4, 4, 2, 1, 0]);
                let before = packet.clone();
                assert!(clamp(&mut packet, mtu));
                assert!(sample::is_sealed(&packet));
                let at = if is_v4 { 40 } else { 60 };
                assert_eq!(packet[at..at + 4], [2, 4, (mss >> 8) as u8, mss as u8]);
                assert_eq!(
                    (&packet[at + 4..], packet.len()),
                    (&before[at + 4..], before.len())
                );
                assert!(!clamp(&mut packet, mtu), "only once");
                assert!(!clamp(&mut packet, 1500), "never upwards");
            }
        }
    }

    #[test]
    fn an_option_may_stand_at_an_odd_place() {
        for options in [[1, 2, 4, 5, 0xb4, 1, 0, 0], [1, 1, 1, 2, 4, 5, 0xb4, 0]] {
            let mut packet = syn(true, SYN, &options);
            assert!(clamp(&mut packet, 1280));
            assert!(sample::is_sealed(&packet));
            assert!(packet.windows(4).any(|w| w == [2, 4, 4, 0xd8]));
        }
    }

    #[test]
    fn what_is_malformed_or_no_syn_stays_as_it_is() {
        let long = [2, 4, 0xff, 0xff];
        let cases: [(u8, &[u8]); 7] = [
            (0x10, &long),
            (SYN, &[]),
            (SYN, &[2, 4, 0xff, 0xff, 3, 0, 0, 0]),
            (SYN, &[2, 4, 0xff, 0xff, 3, 1, 0, 0]),
            (SYN, &[2, 4, 0xff, 0xff, 8, 10, 0, 0]),
            (SYN, &[2, 4, 0xff, 0xff, 1, 1, 1, 8]),
            (SYN, &[2, 3, 0xff, 0]),
        ];
        for (flags, options) in cases {
            let mut packet = syn(true, flags, options);
            let before = packet.clone();
            assert!(!clamp(&mut packet, 1400), "{options:?}");
            assert_eq!(packet, before);
        }
        // A header that says it is longer than the packet; an MTU that holds no data; bytes behind the end of options.
        let mut packet = sample::tcp(true, 1, 7, SYN, &long, &[]);
        packet[32] = 0xf0;
        assert!(!clamp(&mut packet, 1400));
        assert!(!clamp(&mut syn(true, SYN, &long), 40));
        assert!(!clamp(&mut syn(true, SYN, &[0, 0, 0, 0, 2, 4, 0xff, 0xff]), 1400));
    }

    #[test]
    fn arbitrary_options_keep_the_checksum_and_only_fall() {
        arbtest::arbtest(|u| {
            let mut options = Vec::new();
            for _ in 0..u.int_in_range(0..=6)? {
                let mss: u16 = u.arbitrary()?;
                let [high, low] = mss.to_be_bytes();
                match u.int_in_range(0..=3)? {
                    0 => options.push(1),
                    1 => options.extend_from_slice(&[2, 4, high, low]),
                    2 => options.extend_from_slice(&[4, 2]),
                    _ => options.extend_from_slice(&[high, low]),
                }
            }
            options.truncate(40);
            options.resize(options.len().next_multiple_of(4), 0);
            let mut packet = syn(u.arbitrary()?, SYN, &options);
            let before = packet.clone();
            let changed = clamp(&mut packet, u.arbitrary()?);
            assert_eq!(changed, packet != before);
            assert!(sample::is_sealed(&packet));
            Ok(())
        });
    }
}
