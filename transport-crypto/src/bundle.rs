//! The signed relay bundle: everything a client must know of a relay, given out of band.
//!
//! ```text
//! TBS:   0   4  "ADB1"          4  2  bundle version = 1    6  2  flags = 0
//!        8   8  epoch          16  8  not_before           24  8  not_after (Unix seconds)
//!       32   2  min_version    34  2  max_version
//!       36  32  X25519         68 1184 ML-KEM-768
//!     1252 1952 ML-DSA-65      3204 32 Ed25519
//!     3236   2  endpoints, then each: family (4 | 6 | 0) ‖ address 4 | 16 | (len u8 ‖ name) ‖ port u16 ‖ cover u8
//!        ..  2  length of the extensions, then each: id u16 (rising; odd = critical) ‖ len u16 ‖ value
//! SIG: ML-DSA-65 3309 (context "adit1 bundle") ‖ Ed25519 64, both over TBS     all integers big-endian
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

// Addresses only: this crate does no I/O.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, sync::Arc};

use crate::{
    BundleError, RelayId, RelayIdentity, RelayStatics,
    identity::statics_hash,
    kdf::label,
    provider::{
        KemPublic, kem_check,
        signature::{ED25519_SIGNATURE, ML_DSA_KEY, ML_DSA_SIGNATURE, verify_ed25519, verify_ml_dsa},
    },
};

/// No bundle is longer: it must fit the control stream that renews it.
pub const MAX_BUNDLE_BYTES: usize = 8192;

const MAGIC: [u8; 4] = *b"ADB1";
const FORMAT: u16 = 1;
const PROTOCOL_VERSION: u16 = 1;
const MAX_ENDPOINTS: usize = 16;
const MAX_LIFETIME_S: u64 = 90 * 24 * 3600;

/// What a relay is about to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleDraft {
    /// Number of this set of static keys; strictly increasing.
    pub epoch: u64,
    /// First second of validity, Unix seconds.
    pub not_before: u64,
    /// Last second of validity, Unix seconds; at most 90 days later.
    pub not_after: u64,
    /// Where the relay listens; at most 16.
    pub endpoints: Vec<BundleEndpoint>,
}

/// One address of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleEndpoint {
    /// Address or name.
    pub address: EndpointAddress,
    /// UDP port.
    pub port: u16,
    /// Cover profile; 0 = none.
    pub cover: u8,
}

/// An address, or a name to be resolved when connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name of at most 253 letters, digits, dots, hyphens and underscores.
    Name(String),
}

/// A parsed bundle whose two signatures were verified. Clones share one copy.
#[derive(Clone)]
pub struct Bundle(Arc<Contents>);

struct Contents {
    bytes: Vec<u8>,
    fields: Fields,
    relay_id: RelayId,
    kh: [u8; 32],
}

struct Fields {
    epoch: u64,
    not_before: u64,
    not_after: u64,
    x25519: [u8; 32],
    ml_kem: KemPublic,
    ml_dsa: [u8; ML_DSA_KEY],
    ed25519: [u8; 32],
    endpoints: Vec<BundleEndpoint>,
}

impl Bundle {
    /// Reads and verifies a bundle: structure, versions, keys and both signatures; the clock is not asked.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TrailingBytes);
        }
        let mut reader = Reader(bytes);
        let fields = Fields::read(&mut reader)?;
        let signed = bytes.len() - reader.0.len();
        let ml_dsa: [u8; ML_DSA_SIGNATURE] = reader.take()?;
        let ed25519: [u8; ED25519_SIGNATURE] = reader.take()?;
        if !reader.0.is_empty() {
            return Err(BundleError::TrailingBytes);
        }
        let tbs = bytes.get(..signed).ok_or(BundleError::Truncated)?;
        let first = verify_ml_dsa(&fields.ml_dsa, tbs, label::BUNDLE, &ml_dsa);
        let second = verify_ed25519(&fields.ed25519, tbs, &ed25519);
        if !(first && second) {
            return Err(BundleError::BadSignature);
        }
        kem_check(&fields.ml_kem).map_err(|_| BundleError::InvalidKemKey)?;
        let relay_id = RelayId::of(&fields.ml_dsa, &fields.ed25519);
        let kh = statics_hash(&fields.x25519, &fields.ml_kem);
        Ok(Self(Arc::new(Contents {
            bytes: bytes.to_vec(),
            fields,
            relay_id,
            kh,
        })))
    }

    /// The epoch unverified bytes claim, to see before any signature is checked whether that is worth it.
    pub fn claimed_epoch(bytes: &[u8]) -> Option<u64> {
        let field = bytes.get(8..)?.first_chunk()?;
        Some(u64::from_be_bytes(*field))
    }

    /// Refuses a bundle that is not valid at `unix_s`.
    pub fn check_time(&self, unix_s: u64) -> Result<(), BundleError> {
        let Fields {
            not_before,
            not_after,
            ..
        } = self.0.fields;
        match unix_s {
            now if now < not_before => Err(BundleError::NotYetValid { not_before }),
            now if now > not_after => Err(BundleError::Expired { not_after }),
            _ => Ok(()),
        }
    }

    /// Refuses a bundle of any relay but `id`.
    pub fn check_id(&self, id: &RelayId) -> Result<(), BundleError> {
        let found = self.relay_id();
        if found == *id {
            Ok(())
        } else {
            Err(BundleError::WrongRelay { found })
        }
    }

    /// Refuses a bundle older than the newest one known of this relay.
    pub fn check_epoch(&self, known: u64) -> Result<(), BundleError> {
        let found = self.epoch();
        if found >= known {
            Ok(())
        } else {
            Err(BundleError::EpochRegression { known, found })
        }
    }

    /// The relay that signed it.
    pub fn relay_id(&self) -> RelayId {
        self.0.relay_id
    }

    /// Number of the static keys within.
    pub fn epoch(&self) -> u64 {
        self.0.fields.epoch
    }

    /// First second of validity, Unix seconds.
    pub fn not_before(&self) -> u64 {
        self.0.fields.not_before
    }

    /// Last second of validity, Unix seconds.
    pub fn not_after(&self) -> u64 {
        self.0.fields.not_after
    }

    /// Where the relay listens.
    pub fn endpoints(&self) -> &[BundleEndpoint] {
        &self.0.fields.endpoints
    }

    /// KH, the hash of the relay's static keys; envelope keys derive from it.
    pub fn kh(&self) -> &[u8; 32] {
        &self.0.kh
    }

    /// The bundle as it was signed.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    pub(crate) fn x25519(&self) -> &[u8; 32] {
        &self.0.fields.x25519
    }

    pub(crate) fn ml_kem(&self) -> &KemPublic {
        &self.0.fields.ml_kem
    }
}

/// The same signed bytes.
impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("relay_id", &self.relay_id())
            .field("epoch", &self.epoch())
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

impl RelayIdentity {
    /// Signs `draft` with both keys; the bundle's wire bytes.
    pub fn sign_bundle(&self, draft: &BundleDraft, statics: &RelayStatics) -> Result<Vec<u8>, BundleError> {
        let keys = statics.keys();
        let tbs = self.bundle_tbs(draft, keys.x25519.public(), keys.kem.public())?;
        self.sign_tbs(tbs)
    }

    fn bundle_tbs(
        &self,
        draft: &BundleDraft,
        x25519: &[u8; 32],
        ml_kem: &KemPublic,
    ) -> Result<Vec<u8>, BundleError> {
        check_lifetime(draft.not_before, draft.not_after)?;
        if draft.endpoints.len() > MAX_ENDPOINTS {
            return Err(BundleError::Malformed("too many endpoints"));
        }
        let mut tbs = Vec::with_capacity(MAX_BUNDLE_BYTES);
        tbs.extend_from_slice(&MAGIC);
        tbs.extend_from_slice(&FORMAT.to_be_bytes());
        tbs.extend_from_slice(&[0, 0]);
        for number in [draft.epoch, draft.not_before, draft.not_after] {
            tbs.extend_from_slice(&number.to_be_bytes());
        }
        tbs.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        tbs.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        tbs.extend_from_slice(x25519);
        tbs.extend_from_slice(ml_kem);
        tbs.extend_from_slice(&*self.keys().ml_dsa_public());
        tbs.extend_from_slice(&self.keys().ed25519_public());
        tbs.extend_from_slice(&(draft.endpoints.len() as u16).to_be_bytes());
        draft
            .endpoints
            .iter()
            .try_for_each(|endpoint| endpoint.write(&mut tbs))?;
        tbs.extend_from_slice(&[0, 0]);
        Ok(tbs)
    }

    fn sign_tbs(&self, mut tbs: Vec<u8>) -> Result<Vec<u8>, BundleError> {
        let ml_dsa = self
            .keys()
            .sign_ml_dsa(&tbs, label::BUNDLE)
            .ok_or(BundleError::BadSignature)?;
        let ed25519 = self.keys().sign_ed25519(&tbs);
        tbs.extend_from_slice(&ml_dsa);
        tbs.extend_from_slice(&ed25519);
        if tbs.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::Malformed("bundle too long"));
        }
        Ok(tbs)
    }
}

impl Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, BundleError> {
        if reader.take::<4>()? != MAGIC || reader.u16()? != FORMAT {
            return Err(BundleError::Malformed("unknown format"));
        }
        if reader.u16()? != 0 {
            return Err(BundleError::Malformed("unknown flags"));
        }
        let (epoch, not_before, not_after) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (min, max) = (reader.u16()?, reader.u16()?);
        if !(min..=max).contains(&PROTOCOL_VERSION) {
            return Err(BundleError::UnsupportedVersion { min, max });
        }
        check_lifetime(not_before, not_after)?;
        let (x25519, ml_kem, ml_dsa, ed25519) =
            (reader.take()?, reader.take()?, reader.take()?, reader.take()?);
        let count = usize::from(reader.u16()?);
        if count > MAX_ENDPOINTS {
            return Err(BundleError::Malformed("too many endpoints"));
        }
        let endpoints = (0..count)
            .map(|_| BundleEndpoint::read(reader))
            .collect::<Result<_, _>>()?;
        skip_extensions(reader)?;
        Ok(Self {
            epoch,
            not_before,
            not_after,
            x25519,
            ml_kem,
            ml_dsa,
            ed25519,
            endpoints,
        })
    }
}

/// Walks over the extensions. None is known yet, so a critical one is refused.
fn skip_extensions(reader: &mut Reader<'_>) -> Result<(), BundleError> {
    let len = reader.u16()?;
    let mut extensions = Reader(reader.slice(len.into())?);
    let mut previous = None;
    while !extensions.0.is_empty() {
        let (id, len) = (extensions.u16()?, extensions.u16()?);
        extensions.slice(len.into())?;
        if previous.is_some_and(|previous| id <= previous) {
            return Err(BundleError::Malformed("extensions out of order"));
        }
        if id % 2 == 1 {
            return Err(BundleError::Malformed("unknown critical extension"));
        }
        previous = Some(id);
    }
    Ok(())
}

fn check_lifetime(not_before: u64, not_after: u64) -> Result<(), BundleError> {
    match not_after.checked_sub(not_before) {
        Some(lifetime) if lifetime <= MAX_LIFETIME_S => Ok(()),
        Some(_) => Err(BundleError::Malformed("valid for more than 90 days")),
        None => Err(BundleError::Malformed("ends before it begins")),
    }
}

impl BundleEndpoint {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), BundleError> {
        match &self.address {
            EndpointAddress::Ip(IpAddr::V4(ip)) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            EndpointAddress::Ip(IpAddr::V6(ip)) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
            EndpointAddress::Name(name) => {
                check_name(name.as_bytes())?;
                out.extend_from_slice(&[0, name.len() as u8]);
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
        out.push(self.cover);
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BundleError> {
        let address = match reader.u8()? {
            4 => EndpointAddress::Ip(Ipv4Addr::from(reader.take::<4>()?).into()),
            6 => EndpointAddress::Ip(Ipv6Addr::from(reader.take::<16>()?).into()),
            0 => {
                let len = reader.u8()?;
                let name = check_name(reader.slice(len.into())?)?;
                EndpointAddress::Name(name.to_owned())
            }
            _ => return Err(BundleError::Malformed("unknown address family")),
        };
        Ok(Self {
            address,
            port: reader.u16()?,
            cover: reader.u8()?,
        })
    }
}

/// A plausible DNS name (RFC 1035 §2.3.4, with underscores).
fn check_name(name: &[u8]) -> Result<&str, BundleError> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    let text = std::str::from_utf8(name)
        .ok()
        .filter(|_| (1..=253).contains(&name.len()));
    text.filter(|_| name.iter().all(legal))
        .ok_or(BundleError::Malformed("endpoint name"))
}

/// Reads from the front; the end is always `Truncated`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BundleError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], BundleError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BundleError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BundleError> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BundleError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BundleError> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
