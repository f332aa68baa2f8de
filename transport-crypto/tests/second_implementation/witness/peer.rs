//! Both sides of the handshake, in the order of `docs/protocol.md` §3.

use fips203::{
    ml_kem_768,
    traits::{Decaps as _, Encaps as _, KeyGen as _, SerDes as _},
};

use super::{
    Bundle, Draws, at,
    kdf::{Secrets, expand, extract, sha256},
    noise::{self, Noise, Split},
    packet,
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
    /// Instead of an encapsulation to the relay's static key.
    pub(crate) resume: Option<Resume>,
}

/// A ticket and what is needed to use it.
#[derive(Clone)]
pub(crate) struct Resume {
    pub(crate) ticket: [u8; 180],
    pub(crate) rms: [u8; 32],
    /// The name and the static key of the connection it came on.
    pub(crate) client_id: [u8; 32],
    pub(crate) x25519: [u8; 32],
    pub(crate) early: bool,
}

/// What a relay says.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) aes: bool,
    pub(crate) server_time_ms: u64,
    pub(crate) cids: Vec<[u8; 9]>,
    pub(crate) params: Vec<u8>,
    pub(crate) early: bool,
    pub(crate) token: Option<[u8; 20]>,
}

/// What a completed handshake gives either side.
pub(crate) struct Established {
    pub(crate) h: [u8; 32],
    pub(crate) secrets: Secrets,
    /// Payload 2.
    pub(crate) payload: Vec<u8>,
    /// The first two bytes of the relay's message.
    pub(crate) head: [u8; 2],
}

impl Established {
    fn new(split: &Split, payload: Vec<u8>, head: [u8; 2]) -> Self {
        Self {
            h: split.h,
            secrets: Secrets::new(&split.h, &split.k1, &split.k2),
            payload,
            head,
        }
    }

    /// Suite 2.
    pub(crate) fn aes(&self) -> bool {
        self.head[1] & 8 != 0
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

/// `opening`: the encapsulation, or the ticket.
fn prologue(head: &[u8], hid: &[u8; 8], relay_id: &[u8; 32], kh: &[u8; 32], opening: &[u8]) -> Vec<u8> {
    let parts: [&[u8]; 7] = [b"adit1/noise", &[1], head, hid, relay_id, kh, &sha256(&[opening])];
    parts.concat()
}

pub(crate) fn psk0(kh: &[u8; 32], ss_s: &[u8; 32], ct_s: &[u8; CT]) -> [u8; 32] {
    expand(
        &extract(kh, &[ss_s]),
        &[b"adit1 psk0 full", &sha256(&[&ct_s[..]])],
    )
}

pub(crate) fn psk0_resume(rms: &[u8; 32], ticket: &[u8; 180]) -> [u8; 32] {
    expand(
        &extract(b"adit1 res", &[rms]),
        &[b"adit1 psk0 resume", &sha256(&[ticket])],
    )
}

/// `ct_c` is empty and `ss_c` zero for an anonymous client.
pub(crate) fn psk2(
    h1: &[u8; 32],
    [ss_e, ss_c]: [&[u8; 32]; 2],
    head: &[u8],
    [ct_e, ct_c]: [&[u8]; 2],
    client_id: &[u8; 32],
) -> [u8; 32] {
    let info: [&[u8]; 5] = [b"adit1 psk2", head, &sha256(&[ct_e]), &sha256(&[ct_c]), client_id];
    expand(&extract(h1, &[ss_e, ss_c]), &info)
}

pub(crate) fn client_id(x25519: &[u8; 32], ek_c: Option<&[u8]>) -> [u8; 32] {
    match ek_c {
        Some(ek_c) => sha256(&[b"adit1 client", x25519, ek_c]),
        None => sha256(&[x25519]),
    }
}

/// A client between the flights.
pub(crate) struct Client {
    noise: Noise,
    ephemeral: [u8; 64],
    /// Whose encapsulation key the relay answers to; none when it resumes.
    identity: Option<Identity>,
    client_id: [u8; 32],
    pub(crate) h1: [u8; 32],
}

impl Client {
    /// Its state and its message.
    pub(crate) fn start(
        bundle: &Bundle,
        hello: &Hello,
        draws: &mut Draws,
    ) -> Result<(Self, Vec<u8>), Refusal> {
        let (mode, opening, psk0) = match &hello.resume {
            None => {
                let (ct_s, ss_s) = kem::encapsulate(&bundle.ml_kem, &draws.take())?;
                (0, ct_s.to_vec(), psk0(&bundle.kh, &ss_s, &ct_s))
            }
            Some(resume) => (
                if resume.early { 2 } else { 1 },
                resume.ticket.to_vec(),
                psk0_resume(&resume.rms, &resume.ticket),
            ),
        };
        let ephemeral: [u8; 64] = draws.take();
        let s = match (&hello.resume, &hello.identity) {
            (Some(resume), _) => resume.x25519,
            (None, Some(identity)) => identity.x25519,
            (None, None) => draws.take(),
        };
        let (flags, epoch) = (hello.flags.to_be_bytes(), bundle.epoch.to_be_bytes());
        let head = [&[mode, 1], &flags[..], &epoch].concat();
        let prologue = prologue(&head, &hello.hid, &bundle.relay_id, &bundle.kh, &opening);
        let mut noise = Noise::new(&prologue, s, draws.take(), Some(bundle.x25519), &psk0);
        let identity = hello.identity.clone().filter(|_| hello.resume.is_none());
        let ek_c = identity
            .as_ref()
            .map_or(Vec::new(), |identity| kem::public(&identity.kem).to_vec());
        let payload = [
            &hello.time_ms.to_be_bytes()[..],
            &[9],
            &hello.scid,
            &kem::public(&ephemeral),
            &[u8::from(hello.identity.is_some())],
            &hello.params,
            &ek_c,
        ]
        .concat();
        let message = noise.write(&payload).map_err(|error| error.to_string())?;
        let client_id = match &hello.resume {
            Some(resume) => resume.client_id,
            None => client_id(&noise::public(s), identity.is_some().then_some(ek_c.as_slice())),
        };
        let client = Self {
            h1: noise.transcript(),
            noise,
            ephemeral,
            identity,
            client_id,
        };
        Ok((client, [&head[..], &opening, &message].concat()))
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
        Ok(Established::new(&self.noise.split(), payload, head))
    }
}

/// A relay.
pub(crate) struct Relay {
    pub(crate) identity: Identity,
    pub(crate) bundle: Bundle,
    /// What tickets are sealed with, and its number.
    pub(crate) ticket_key: (u32, [u8; 32]),
}

/// A client's message that was read.
pub(crate) struct Read {
    noise: Noise,
    hid: [u8; 8],
    pub(crate) client_id: [u8; 32],
    pub(crate) x25519: [u8; 32],
    pub(crate) payload: Vec<u8>,
    pub(crate) h1: [u8; 32],
    /// The content of the ticket, if it resumes.
    pub(crate) ticket: Option<[u8; 136]>,
    ek_e: [u8; EK],
    ek_c: Option<[u8; EK]>,
}

impl Relay {
    /// `e` is the ephemeral key the answer will be made with.
    pub(crate) fn read(&self, hid: &[u8; 8], ch: &[u8], e: [u8; 32]) -> Result<Read, Refusal> {
        let head: [u8; 12] = at(ch, 0);
        let Bundle { relay_id, kh, .. } = &self.bundle;
        let (opening, psk0, ticket) = if head[0] == 0 {
            let ct_s: [u8; CT] = at(ch, 12);
            let ss_s = kem::decapsulate(&self.identity.kem, &ct_s);
            (ct_s.to_vec(), psk0(kh, &ss_s, &ct_s), None)
        } else {
            let ticket: [u8; 180] = at(ch, 12);
            let (id, key) = &self.ticket_key;
            if at(&ticket, 0) != id.to_be_bytes() {
                return Err("another ticket key".into());
            }
            let content = packet::open_ticket(key, relay_id, &ticket).ok_or("forged ticket")?;
            let psk0 = psk0_resume(&at(&content, 16), &ticket);
            (ticket.to_vec(), psk0, Some(content))
        };
        let prologue = prologue(&head, hid, relay_id, kh, &opening);
        let mut noise = Noise::new(&prologue, self.identity.x25519, e, None, &psk0);
        let payload = noise
            .read(&ch[12 + opening.len()..])
            .map_err(|error| error.to_string())?;
        let x25519 = noise.remote_static();
        if ticket.is_some_and(|content| content[120..] != static_tag(&x25519)) {
            return Err("another holder's ticket".into());
        }
        let ek_c = (payload[18 + EK] == 1 && ticket.is_none()).then(|| at(&payload, payload.len() - EK));
        Ok(Read {
            hid: *hid,
            client_id: match &ticket {
                Some(content) => at(content, 48),
                None => client_id(&x25519, ek_c.as_ref().map(|ek_c| &ek_c[..])),
            },
            x25519,
            ek_e: at(&payload, 18),
            ek_c,
            h1: noise.transcript(),
            ticket,
            payload,
            noise,
        })
    }
}

/// Whom a ticket is for.
pub(crate) fn static_tag(x25519: &[u8; 32]) -> [u8; 16] {
    at(&sha256(&[b"adit1 tkt static", x25519]), 0)
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
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        let head = [
            if self.ticket.is_some() { 2 } else { 1 },
            flag(1, self.ek_c.is_some())
                | flag(2, answer.early)
                | flag(4, answer.token.is_some())
                | flag(8, answer.aes),
        ];
        self.noise.push_psk2(&psk2(
            &self.h1,
            [&ss_e, &ss_c],
            &head,
            [&ct_e, &ct_c],
            &self.client_id,
        ));
        let echo = answer
            .token
            .map_or(Vec::new(), |token| sha256(&[&self.hid, &token])[..16].to_vec());
        let payload = [
            &answer.server_time_ms.to_be_bytes()[..],
            &echo,
            &[answer.cids.len() as u8],
            answer.cids.as_flattened(),
            &answer.params,
        ]
        .concat();
        let message = self.noise.write(&payload).map_err(|error| error.to_string())?;
        let sh = [&head[..], &ct_e, &ct_c, &message].concat();
        Ok((Established::new(&self.noise.split(), payload, head), sh))
    }
}
