//! The first implementation as the witness meets it, and what is said in an exchange.

use std::sync::LazyLock;

use transport_crypto::{
    Auth, Bundle, BundleDraft, ClientEstablished, ClientHello, ClientIdentity, ClientTicket, Counter,
    EarlySeal, Generation, Initiator, Offered, RelayIdentity, RelayStatics, Responder, Secret, SeededEntropy,
    ServerAnswer, Session, Suite, TicketKeys,
};

use crate::witness::{
    self, Draws,
    kdf::updated,
    packet,
    peer::{Answer, Client, Established, Hello, Identity, Relay},
};

pub(crate) const STATICS: [u8; 96] = [0x22; 96];
pub(crate) const CLIENT: [u8; 96] = [0x33; 96];
pub(crate) const EPOCH: u64 = 7;
pub(crate) const TICKET_KEY: (u32, [u8; 32]) = (1, [0x77; 32]);
/// Unix seconds of both clocks.
pub(crate) const NOW_S: u64 = 1_800_000_123;

pub(crate) struct World {
    /// The first implementation's view.
    pub(crate) bundle: Bundle,
    pub(crate) responder: Responder,
    pub(crate) client: ClientIdentity,
    pub(crate) tickets: TicketKeys,
    /// The second one's.
    pub(crate) relay: Relay,
}

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let relay = RelayIdentity::from_seeds([0x11; 64]);
    let statics = RelayStatics::from_seeds(STATICS);
    let draft = BundleDraft {
        epoch: EPOCH,
        not_before: 0,
        not_after: 1,
        endpoints: Vec::new(),
    };
    let bundle = Bundle::parse(&relay.sign_bundle(&draft, &statics).unwrap()).unwrap();
    World {
        responder: Responder::new(statics, relay.relay_id(), EPOCH),
        client: ClientIdentity::from_seeds(CLIENT),
        relay: Relay {
            identity: Identity::from_seeds(&STATICS),
            bundle: witness::Bundle::read(bundle.bytes()),
            ticket_key: TICKET_KEY,
        },
        tickets: TicketKeys::from_secret(relay.relay_id(), TICKET_KEY.0, &Secret::new(TICKET_KEY.1)),
        bundle,
    }
});

/// One exchange: what is said, and from which seeds.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) hello: Hello,
    pub(crate) answer: Answer,
    pub(crate) client: [u8; 32],
    pub(crate) relay: [u8; 32],
}

impl Case {
    pub(crate) fn new(enrolled: bool, aes: bool, seed: u8) -> Self {
        Self {
            hello: Hello {
                hid: [seed; 8],
                flags: 1,
                time_ms: NOW_S * 1000 + 456,
                scid: *b"client id",
                params: b"client params".to_vec(),
                identity: enrolled.then(|| Identity::from_seeds(&CLIENT)),
                resume: None,
            },
            answer: Answer {
                aes,
                server_time_ms: NOW_S * 1000 + 999,
                cids: vec![*b"relay id0", *b"relay id1"],
                params: b"relay params".to_vec(),
                early: false,
                token: None,
            },
            client: [seed; 32],
            relay: [seed ^ 0xff; 32],
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        if self.answer.aes {
            Suite::Aes256Gcm
        } else {
            Suite::ChaCha20Poly1305
        }
    }

    fn first_hello(&self) -> ClientHello<'_> {
        ClientHello {
            has_aes: self.hello.flags & 1 != 0,
            time_ms: self.hello.time_ms,
            scid: self.hello.scid,
            auth: if self.hello.identity.is_some() {
                Auth::Enrolled(&WORLD.client)
            } else {
                Auth::Anonymous
            },
            params: &self.hello.params,
        }
    }

    pub(crate) fn first_client(&self) -> (Initiator, Vec<u8>) {
        let (mut rng, mut ch) = (SeededEntropy::new(self.client), Vec::new());
        let hello = self.first_hello();
        let initiator = Initiator::start(&WORLD.bundle, self.hello.hid, hello, &mut rng, &mut ch).unwrap();
        (initiator, ch)
    }

    /// As [`Self::first_client`], from a ticket and with early data if it allows any.
    pub(crate) fn first_resuming_client(
        &self,
        ticket: &ClientTicket,
    ) -> (Initiator, Option<EarlySeal>, Vec<u8>) {
        let (mut rng, mut ch) = (SeededEntropy::new(self.client), Vec::new());
        let (hid, hello) = (self.hello.hid, self.first_hello());
        let (initiator, early) =
            Initiator::resume(&WORLD.bundle, ticket, true, hid, hello, &mut rng, &mut ch).unwrap();
        (initiator, early, ch)
    }

    pub(crate) fn first_offered(&self, ch: &[u8]) -> Offered {
        WORLD
            .responder
            .read(self.hello.hid, ch, Some(&WORLD.tickets), NOW_S)
            .unwrap()
    }

    pub(crate) fn first_relay(&self, ch: &[u8]) -> (Session, Vec<u8>) {
        let answer = ServerAnswer {
            suite: self.suite(),
            relay_cids: &self.answer.cids,
            params: &self.answer.params,
            server_time_ms: self.answer.server_time_ms,
            early_accepted: self.answer.early,
            retry_token: self.answer.token,
        };
        let (mut rng, mut sh) = (SeededEntropy::new(self.relay), Vec::new());
        let secrets = self.first_offered(ch).accept(answer, &mut rng, &mut sh).unwrap();
        (secrets.into_session(), sh)
    }

    /// Our client's session from our relay's or the other's message.
    pub(crate) fn first_finish(&self, initiator: &mut Initiator, sh: &[u8]) -> ClientEstablished {
        initiator.finish(sh, self.answer.token.as_slice()).unwrap()
    }

    pub(crate) fn second_client(&self) -> (Client, Vec<u8>) {
        Client::start(&WORLD.relay.bundle, &self.hello, &mut Draws::new(self.client)).unwrap()
    }

    /// The relay draws `m` of `ct_e`, that of `ct_c` if there is one, then its ephemeral key.
    pub(crate) fn second_relay(&self, ch: &[u8]) -> (Established, Vec<u8>) {
        let mut draws = Draws::new(self.relay);
        let m_e = draws.take();
        let shown = self
            .hello
            .identity
            .as_ref()
            .filter(|_| self.hello.resume.is_none());
        let m_c = shown.map_or([0; 32], |_| draws.take());
        let read = WORLD.relay.read(&self.hello.hid, ch, draws.take()).unwrap();
        read.answer(&self.answer, [m_e, m_c]).unwrap()
    }
}

/// Transcript, exporter, packets of three generations and masks, seen from the side the first implementation plays.
pub(crate) fn assert_same(first: &mut Session, second: &Established, first_is_client: bool) {
    assert_eq!(first.transcript, second.h);
    assert_eq!(first.suite == Suite::Aes256Gcm, second.aes());
    let mut exported = [0; 32];
    first.exporter.export(b"label", &mut exported);
    assert_eq!(exported, second.secrets.export(b"label"));
    assert_eq!(*first.resumption.ticket_secret(9).expose(), second.secrets.rms(9));

    let secrets = [&second.secrets.client, &second.secrets.server];
    let [ours, theirs] = if first_is_client {
        secrets
    } else {
        [secrets[1], secrets[0]]
    };
    for generation in 0..3 {
        let number = 5 + generation as u64;
        let mut body = *b"application data";
        let at = Counter { lane: 2, number };
        let tag = first.seal.seal(at, b"header", &mut body).unwrap();
        let ap = updated(ours, generation);
        let expected = packet::seal(&ap, second.aes(), 2, number, b"header", b"application data");
        assert_eq!([&body[..], &tag].concat(), expected);
        let mut mask = [[0; 5]];
        first.seal.masks(&[tag], &mut mask);
        assert_eq!(mask[0], packet::mask(ours, second.aes(), tag));

        let ap = updated(theirs, generation);
        let mut packet = packet::seal(&ap, second.aes(), 1, number, b"", b"an answer");
        let sample = *packet.last_chunk().unwrap();
        let at = Counter { lane: 1, number };
        let len = first
            .open
            .open(Generation::Current, at, b"", &mut packet)
            .unwrap();
        assert_eq!(&packet[..len], b"an answer");
        first.open.masks(&[sample], &mut mask);
        assert_eq!(mask[0], packet::mask(theirs, second.aes(), sample));
        first.seal.update();
        first.open.update();
    }
}
