//! What the two ends announced, and what follows from it.
#![forbid(unsafe_code)]

use std::time::Duration;

use transport_reliability::Config;
use transport_scheduler::{PeerLimits, Side};

use super::observe::Observing;
use super::path::mtu::{BASE, Mtu};
use super::punch::Punch;
use super::{CID_LIMIT, MAX_ACK_DELAY_US, MAX_PATHS, MIN_ACK_DELAY_US};
use crate::config::{AddressOptions, TransportConfig};
use crate::random::Random;
use crate::wire::TransportParameters;
use crate::wire::params::addresses;

pub(super) fn recovery_config(
    transport: &TransportConfig,
    params: &TransportParameters,
    random: &mut Random,
) -> Config {
    Config {
        max_datagram: BASE,
        algorithm: transport.algorithm,
        seed: random.u64(),
        peer_max_ack_delay: Duration::from_micros(params.max_ack_delay_us),
        ..Config::default()
    }
}

/// The highest path id the peer may use at first.
pub(super) fn max_path_id(transport: &TransportConfig) -> u32 {
    transport.max_paths.clamp(1, MAX_PATHS) - 1
}

pub(super) fn mtu(transport: &TransportConfig, params: &TransportParameters) -> Mtu {
    let theirs = u16::try_from(params.max_udp).unwrap_or(u16::MAX);
    Mtu::new(transport.max_udp_payload.min(theirs), transport.mtu_search)
}

pub(super) fn idle_timeout(ours: Duration, theirs_ms: u64) -> Option<Duration> {
    let ours = Some(ours).filter(|idle| !idle.is_zero());
    let theirs = Some(theirs_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    }
}

pub(super) fn peer_limits(params: &TransportParameters) -> PeerLimits {
    PeerLimits {
        max_data: params.max_data,
        max_stream_data_bidi_local: params.max_stream_data_bidi_local,
        max_stream_data_bidi_remote: params.max_stream_data_bidi_remote,
        max_stream_data_uni: params.max_stream_data_uni,
        max_streams_bidi: params.max_streams_bidi,
        max_streams_uni: params.max_streams_uni,
        max_datagram: params.max_datagram,
    }
}

/// Who tells whom from where its packets come.
pub(super) fn observing(transport: &TransportConfig, params: &TransportParameters) -> Option<Box<Observing>> {
    let (ours, theirs) = (address_bits(transport), params.addresses);
    let agreed = |one: u64, other: u64| ours & one != 0 && theirs & other != 0;
    let (tells, asks) = (addresses::TELLS, addresses::ASKS);
    Observing::new(agreed(tells, asks), agreed(asks, tells))
}

/// Whether direct paths are looked for.
pub(super) fn punch(
    transport: &TransportConfig,
    params: &TransportParameters,
    side: Side,
) -> Option<Box<Punch>> {
    let agreed = address_bits(transport) & params.addresses & addresses::PUNCHES != 0;
    agreed.then(|| Box::new(Punch::new(side == Side::Client, transport.addresses.allow)))
}

fn address_bits(transport: &TransportConfig) -> u64 {
    let AddressOptions {
        tell,
        ask,
        direct,
        force_relay,
        ..
    } = transport.addresses;
    let direct = direct && !force_relay && max_path_id(transport) > 0;
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    bit(tell, addresses::TELLS) | bit(ask, addresses::ASKS) | bit(direct, addresses::PUNCHES)
}

/// What we announce of ourselves.
pub(crate) fn announce(transport: &TransportConfig, app: &[u8]) -> TransportParameters {
    let limits = transport.limits.announce(u64::from(transport.max_datagram));
    TransportParameters {
        idle_timeout_ms: u64::try_from(transport.idle_timeout.as_millis()).unwrap_or(0),
        max_udp: u64::from(transport.max_udp_payload.max(BASE)),
        max_data: limits.max_data,
        max_stream_data_bidi_local: limits.max_stream_data_bidi_local,
        max_stream_data_bidi_remote: limits.max_stream_data_bidi_remote,
        max_stream_data_uni: limits.max_stream_data_uni,
        max_streams_bidi: limits.max_streams_bidi,
        max_streams_uni: limits.max_streams_uni,
        max_ack_delay_us: MAX_ACK_DELAY_US,
        min_ack_delay_us: MIN_ACK_DELAY_US,
        cid_limit: CID_LIMIT,
        max_datagram: limits.max_datagram,
        initial_max_path_id: max_path_id(transport).into(),
        addresses: address_bits(transport),
        app: app.to_vec(),
    }
}
