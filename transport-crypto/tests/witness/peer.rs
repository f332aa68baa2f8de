//! Both sides of the handshake, in the order of `docs/protocol.md` §3.

use fips203::{
    ml_kem_768,
    traits::{Decaps as _, Encaps as _, KeyGen as _, SerDes as _},
};

use super::{
    Bundle, Draws, at,
    kdf::{Secrets, expand, extract, sha256},
    noise::{self, Noise, Split},
};

const CT: usize = 1088;
const EK: usize = 1184;

/// Why the witness refuses a message; `clatter` and the layouts give their own words.
pub(crate) type Refusal = String;

/// Long-term keys: an X25519 secret and an ML-KEM-768 seed.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) x25519: [u8; 32],
    pub(crate) kem: [u8; 64],
}

impl Identity {
    pub(crate) fn from_seeds(seeds: &[u8; 96]) -> Self {
        Self {
            x25519: at(seeds, 0),
            kem: at(seeds, 32),
        }
    }
}

/// What a client says.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) hid: [u8; 8],
    pub(crate) flags: u16,
    pub(crate) time_ms: u64,
    pub(crate) scid: [u8; 9],
    pub(crate) params: Vec<u8>,
    pub(crate) identity: Option<Identity>,
}

/// What a relay says.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) aes: bool,
    pub(crate) server_time_ms: u64,
    pub(crate) cids: Vec<[u8; 9]>,
    pub(crate) params: Vec<u8>,
}

/// What a completed handshake gives either side.
pub(crate) struct Established {
    pub(crate) h: [u8; 32],
    pub(crate) secrets: Secrets,
    /// Payload 2 as the client read it.
    pub(crate) payload: Vec<u8>,
    pub(crate) aes: bool,
}

impl Established {
    fn new(split: &Split, payload: Vec<u8>, aes: bool) -> Self {
        Self {
            h: split.h,
            secrets: Secrets::new(&split.h, &split.k1, &split.k2),
            payload,
            aes,
        }
    }
}

/// ML-KEM-768 by the second library.
pub(crate) mod kem {
    use super::*;

    pub(crate) fn public(seed: &[u8; 64]) -> [u8; EK] {
        ml_kem_768::KG::keygen_from_seed(at(seed, 0), at(seed, 32))
            .0
            .into_bytes()
    }

    pub(crate) fn encapsulate(ek: &[u8; EK], m: &[u8; 32]) -> Result<([u8; CT], [u8; 32]), Refusal> {
        let ek = ml_kem_768::EncapsKey::try_from_bytes(*ek)?;
        let (shared, ciphertext) = ek.encaps_from_seed(m);
        Ok((ciphertext.into_bytes(), shared.into_bytes()))
    }

    pub(crate) fn decapsulate(seed: &[u8; 64], ciphertext: &[u8; CT]) -> [u8; 32] {
        let (_, dk) = ml_kem_768::KG::keygen_from_seed(at(seed, 0), at(seed, 32));
        let ciphertext = ml_kem_768::CipherText::try_from_bytes(*ciphertext).unwrap();
        dk.try_decaps(&ciphertext).unwrap().into_bytes()
    }
}

fn prologue(head: &[u8], hid: &[u8; 8], relay_id: &[u8; 32], kh: &[u8; 32], ct_s: &[u8; CT]) -> Vec<u8> {
    let parts: [&[u8]; 7] = [
        b"adit1/noise",
        &[1],
        head,
        hid,
        relay_id,
        kh,
        &sha256(&[&ct_s[..]]),
    ];
    parts.concat()
}

fn psk0(kh: &[u8; 32], ss_s: &[u8; 32], ct_s: &[u8; CT]) -> [u8; 32] {
    expand(
        &extract(kh, &[ss_s]),
        &[b"adit1 psk0 full", &sha256(&[&ct_s[..]])],
    )
}

/// `ct_c` is empty and `ss_c` zero for an anonymous client.
fn psk2(
    h1: &[u8; 32],
    [ss_e, ss_c]: [&[u8; 32]; 2],
    head: &[u8],
    [ct_e, ct_c]: [&[u8]; 2],
    client_id: &[u8; 32],
) -> [u8; 32] {
    let info: [&[u8]; 5] = [b"adit1 psk2", head, &sha256(&[ct_e]), &sha256(&[ct_c]), client_id];
    expand(&extract(h1, &[ss_e, ss_c]), &info)
}

fn client_id(x25519: &[u8; 32], ek_c: Option<&[u8]>) -> [u8; 32] {
    match ek_c {
        Some(ek_c) => sha256(&[b"adit1 client", x25519, ek_c]),
        None => sha256(&[x25519]),
    }
}

/// A client between the flights.
pub(crate) struct Client {
    noise: Noise,
    ephemeral: [u8; 64],
    identity: Option<Identity>,
    client_id: [u8; 32],
}

impl Client {
    /// Its state and its message.
    pub(crate) fn start(
        bundle: &Bundle,
        hello: &Hello,
        draws: &mut Draws,
    ) -> Result<(Self, Vec<u8>), Refusal> {
        let (ct_s, ss_s) = kem::encapsulate(&bundle.ml_kem, &draws.take())?;
        let ephemeral: [u8; 64] = draws.take();
        let s = match &hello.identity {
            Some(identity) => identity.x25519,
            None => draws.take(),
        };
        let head = [
            &[0, 1],
            &hello.flags.to_be_bytes()[..],
            &bundle.epoch.to_be_bytes(),
        ]
        .concat();
        let prologue = prologue(&head, &hello.hid, &bundle.relay_id, &bundle.kh, &ct_s);
        let mut noise = Noise::new(
            &prologue,
            s,
            draws.take(),
            Some(bundle.x25519),
            &psk0(&bundle.kh, &ss_s, &ct_s),
        );
        let ek_c = hello.identity.as_ref().map(|identity| kem::public(&identity.kem));
        let ek_c: Option<&[u8]> = ek_c.as_ref().map(|ek_c| &ek_c[..]);
        let payload = [
            &hello.time_ms.to_be_bytes()[..],
            &[9],
            &hello.scid,
            &kem::public(&ephemeral),
            &[u8::from(ek_c.is_some())],
            &hello.params,
            ek_c.unwrap_or_default(),
        ]
        .concat();
        let message = noise.write(&payload).map_err(|error| error.to_string())?;
        let client = Self {
            noise,
            ephemeral,
            identity: hello.identity.clone(),
            client_id: client_id(&noise::public(s), ek_c),
        };
        Ok((client, [&head[..], &ct_s, &message].concat()))
    }

    /// Reads the relay's message.
    pub(crate) fn finish(mut self, sh: &[u8]) -> Result<Established, Refusal> {
        let (head, ct_e): ([u8; 2], [u8; CT]) = (at(sh, 0), at(sh, 2));
        let ss_e = kem::decapsulate(&self.ephemeral, &ct_e);
        let (ct_c, ss_c, message) = match &self.identity {
            Some(identity) => {
                let ct_c = at(sh, 2 + CT);
                (
                    ct_c.to_vec(),
                    kem::decapsulate(&identity.kem, &ct_c),
                    &sh[2 + 2 * CT..],
                )
            }
            None => (Vec::new(), [0; 32], &sh[2 + CT..]),
        };
        let h1 = self.noise.transcript();
        self.noise
            .push_psk2(&psk2(&h1, [&ss_e, &ss_c], &head, [&ct_e, &ct_c], &self.client_id));
        let payload = self.noise.read(message).map_err(|error| error.to_string())?;
        Ok(Established::new(&self.noise.split(), payload, head[1] & 8 != 0))
    }
}

/// A relay.
pub(crate) struct Relay {
    pub(crate) identity: Identity,
    pub(crate) bundle: Bundle,
}

/// A client's message that was read.
pub(crate) struct Read {
    noise: Noise,
    pub(crate) client_id: [u8; 32],
    pub(crate) payload: Vec<u8>,
    ek_e: [u8; EK],
    ek_c: Option<[u8; EK]>,
}

impl Relay {
    /// `e` is the ephemeral key the answer will be made with.
    pub(crate) fn read(&self, hid: &[u8; 8], ch: &[u8], e: [u8; 32]) -> Result<Read, Refusal> {
        let (head, ct_s): ([u8; 12], [u8; CT]) = (at(ch, 0), at(ch, 12));
        let ss_s = kem::decapsulate(&self.identity.kem, &ct_s);
        let Bundle { relay_id, kh, .. } = &self.bundle;
        let prologue = prologue(&head, hid, relay_id, kh, &ct_s);
        let mut noise = Noise::new(&prologue, self.identity.x25519, e, None, &psk0(kh, &ss_s, &ct_s));
        let payload = noise.read(&ch[12 + CT..]).map_err(|error| error.to_string())?;
        let ek_c = (payload[18 + EK] == 1).then(|| at(&payload, payload.len() - EK));
        Ok(Read {
            client_id: client_id(&noise.remote_static(), ek_c.as_ref().map(|ek_c| &ek_c[..])),
            ek_e: at(&payload, 18),
            ek_c,
            payload,
            noise,
        })
    }
}

impl Read {
    /// The relay's message and secrets. `m` are the encapsulations' random bytes, the second for an enrolled client.
    pub(crate) fn answer(
        mut self,
        answer: &Answer,
        m: [[u8; 32]; 2],
    ) -> Result<(Established, Vec<u8>), Refusal> {
        let [m_e, m_c] = &m;
        let (ct_e, ss_e) = kem::encapsulate(&self.ek_e, m_e)?;
        let (ct_c, ss_c) = match &self.ek_c {
            Some(ek_c) => kem::encapsulate(ek_c, m_c).map(|(ct, ss)| (ct.to_vec(), ss))?,
            None => (Vec::new(), [0; 32]),
        };
        let head = [1, u8::from(self.ek_c.is_some()) | if answer.aes { 8 } else { 0 }];
        let h1 = self.noise.transcript();
        self.noise
            .push_psk2(&psk2(&h1, [&ss_e, &ss_c], &head, [&ct_e, &ct_c], &self.client_id));
        let payload = [
            &answer.server_time_ms.to_be_bytes()[..],
            &[answer.cids.len() as u8],
            answer.cids.as_flattened(),
            &answer.params,
        ]
        .concat();
        let message = self.noise.write(&payload).map_err(|error| error.to_string())?;
        let sh = [&head[..], &ct_e, &ct_c, &message].concat();
        Ok((Established::new(&self.noise.split(), payload, answer.aes), sh))
    }
}
