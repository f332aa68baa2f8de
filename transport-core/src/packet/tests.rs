use std::sync::OnceLock;

use transport_crypto::{
    Auth, Bundle, BundleDraft, CidMasks, ClientHello, Direction, Entropy, Generation, Grant, Initiator,
    KeyExhausted, RelayIdentity, RelayStatics, Responder, SeededEntropy, ServerAnswer, Session, Suite,
};

use super::*;
use crate::buffer::{Batch, MAX_SEGMENTS};
use crate::wire::frame::{Datagram, Stream};
use crate::wire::header::{ConnectionId, Header, TAG_LEN};
use crate::wire::{Frame, Frames, WriteError};

const DIRECTION: Direction = Direction::ClientToServer;
const CID: ConnectionId = ConnectionId(*b"receiver!");

/// A relay that can answer; signing its bundle is the slow part, so it is made once.
fn relay() -> &'static (Bundle, RelayIdentity, [u8; 96]) {
    static RELAY: OnceLock<(Bundle, RelayIdentity, [u8; 96])> = OnceLock::new();
    RELAY.get_or_init(|| {
        let identity = RelayIdentity::from_seeds([1; 64]);
        let draft = BundleDraft {
            epoch: 1,
            not_before: 0,
            not_after: 86_400,
            endpoints: vec![],
        };
        let signed = identity
            .sign_bundle(&draft, &RelayStatics::from_seeds([2; 96]))
            .unwrap();
        (Bundle::parse(&signed).unwrap(), identity, [2; 96])
    })
}

/// Both ends of a handshake: client, relay.
fn sessions(suite: Suite) -> (Session, Session) {
    let (bundle, identity, seeds) = relay();
    let mut rng = SeededEntropy::new([3; 32]);
    let hello = ClientHello {
        has_aes: true,
        time_ms: 0,
        scid: [0; 9],
        auth: Auth::Anonymous,
        params: &[],
    };
    let mut body = Vec::new();
    let mut initiator = Initiator::start(bundle, [4; 8], hello, &mut rng, &mut body).unwrap();
    let responder = Responder::new(RelayStatics::from_seeds(*seeds), identity.relay_id(), 1);
    let answer = ServerAnswer {
        suite,
        relay_cids: &[CID.0],
        params: &[],
        server_time_ms: 0,
        early_accepted: false,
        retry_token: None,
    };
    let mut reply = Vec::new();
    let server = responder
        .read([4; 8], &body, None, 0)
        .unwrap()
        .accept(answer, &mut rng, &mut reply)
        .unwrap()
        .into_session();
    (initiator.finish(&reply, &[]).unwrap().session, server)
}

fn cids() -> CidMasks {
    CidMasks::new(&relay().1.relay_id(), &Grant::default())
}

fn header(number: u64, number_len: usize) -> Header {
    Header {
        cid: CID,
        key_phase: false,
        number,
        number_len,
        grease: number as u8,
    }
}

/// Seals a batch of packets with the given numbers, each with one DATAGRAM of `length` bytes.
fn sealed_batch(client: &mut Session, numbers: impl IntoIterator<Item = u64>, length: usize) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let mut packet = Builder::start(&mut batch, &header(number, 1 + number as usize % 4), 1232).unwrap();
        packet
            .frame(&Frame::Datagram(Datagram {
                data: &vec![number as u8; length],
            }))
            .unwrap();
        packet.pad_to(1232);
        assert_eq!(packet.seal(&mut client.seal, 0), Ok(1232));
    }
    batch
}

fn receive<'d>(server: &mut Session, datagram: &'d mut [u8], number: u64) -> Option<&'d mut [u8]> {
    let mut found = [None; MAX_SEGMENTS];
    clear_cids(&cids(), DIRECTION, [&*datagram].into_iter(), &mut found);
    let packet = Sealed::unmask(datagram, found[0]?, &server.open)?;
    packet.open(&mut server.open, Generation::Current, 0, number).ok()
}

#[test]
fn a_batch_travels_masked_and_opens_on_the_other_side() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        let (mut client, mut server) = sessions(suite);
        let numbers = 70_000..70_000 + 53;
        let mut batch = sealed_batch(&mut client, numbers.clone(), 500);
        let clear = batch.bytes().to_vec();
        mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
        assert!(batch.is_finished() && batch.count() == 53);

        let mut wire: Vec<Vec<u8>> = batch.segments().map(<[u8]>::to_vec).collect();
        let mut found = [None; MAX_SEGMENTS];
        clear_cids(&cids(), DIRECTION, wire.iter().map(Vec::as_slice), &mut found);
        for (index, number) in numbers.enumerate() {
            assert_ne!(wire[index][..CID_LEN], CID.0, "the id shows on the wire");
            let packet = Sealed::unmask(&mut wire[index], found[index].unwrap(), &server.open).unwrap();
            assert_eq!(
                (packet.cid(), packet.key_phase(), packet.size()),
                (CID, false, 1232)
            );
            let bits = 8 * packet.number_len();
            assert_eq!(packet.number_len(), 1 + number as usize % 4);
            assert_eq!(u64::from(packet.truncated()), number & ((1 << bits) - 1));
            let frames = packet
                .open(&mut server.open, Generation::Current, 0, number)
                .unwrap();
            let first = Frames::new(frames).next();
            assert_eq!(
                first,
                Some(Ok(Frame::Datagram(Datagram {
                    data: &[number as u8; 500]
                })))
            );
            // All but the sealed part is again as it was before the masks.
            assert_eq!(wire[index][..CID_LEN + 2], clear[1232 * index..][..CID_LEN + 2]);
        }
    }
}

#[test]
fn masks_of_a_batch_in_pieces_equal_those_at_once() {
    let build = |stops: &[usize]| {
        let (mut client, _) = sessions(Suite::ChaCha20Poly1305);
        let mut batch = Batch::default();
        for number in 0..10 {
            let mut packet = Builder::start(&mut batch, &header(number, 2), 100).unwrap();
            packet.frame(&Frame::Ping).unwrap();
            packet.pad_to(100);
            packet.seal(&mut client.seal, 0).unwrap();
            if stops.contains(&(number as usize)) {
                mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
            }
        }
        batch.bytes().to_vec()
    };
    assert_eq!(build(&[9]), build(&[0, 1, 5, 9]));
    assert_ne!(build(&[9]), build(&[8]));
}

#[test]
fn any_changed_bit_is_forged_or_unreadable() {
    let (mut client, mut server) = sessions(Suite::ChaCha20Poly1305);
    let mut batch = Batch::default();
    let mut packet = Builder::start(&mut batch, &header(9, 1), 1232).unwrap();
    packet.frame(&Frame::Ping).unwrap();
    packet.seal(&mut client.seal, 0).unwrap();
    mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
    let sent = batch.bytes().to_vec();
    assert_eq!(sent.len(), MIN_PACKET + 1);
    for bit in 0..sent.len() * 8 {
        let mut datagram = sent.clone();
        datagram[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(receive(&mut server, &mut datagram, 9), None, "bit {bit}");
    }
    assert_eq!(
        receive(&mut server, &mut sent.clone(), 10),
        None,
        "another number"
    );
    for cut in 0..sent.len() {
        assert_eq!(
            receive(&mut server, &mut sent[..cut].to_vec(), 9),
            None,
            "cut at {cut}"
        );
    }
    assert_eq!(
        receive(&mut server, &mut sent.clone(), 9).map(|frames| frames.to_vec()),
        Some(vec![1])
    );
}

#[test]
fn the_path_is_part_of_the_nonce() {
    let (mut client, mut server) = sessions(Suite::ChaCha20Poly1305);
    let mut batch = Batch::default();
    let mut packet = Builder::start(&mut batch, &header(9, 1), 1232).unwrap();
    packet.frame(&Frame::Ping).unwrap();
    packet.seal(&mut client.seal, 3).unwrap();
    mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
    let mut open = |path| {
        let mut datagram = batch.bytes().to_vec();
        let packet = Sealed::unmask(&mut datagram, CID, &server.open).unwrap();
        packet
            .open(&mut server.open, Generation::Current, path, 9)
            .is_ok()
    };
    assert!(!open(0) && open(3));
}

#[test]
fn arbitrary_datagrams_are_dropped() {
    let (_, mut server) = sessions(Suite::Aes256Gcm);
    let mut rng = SeededEntropy::new([9; 32]);
    for length in (0..80).chain([1232, 1500]) {
        let mut datagram = vec![0; length];
        rng.fill(&mut datagram).unwrap();
        assert_eq!(receive(&mut server, &mut datagram, 0), None);
    }
}

#[test]
fn ids_of_more_datagrams_than_one_call_of_the_cipher_takes() {
    let (mut client, _) = sessions(Suite::ChaCha20Poly1305);
    let mut batch = sealed_batch(&mut client, 0..50, 10);
    mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
    let datagrams: Vec<&[u8]> = batch
        .segments()
        .chain([&[0u8; MIN_PACKET - 1][..], &[]])
        .cycle()
        .take(3 * MAX_SEGMENTS)
        .collect();
    for datagrams in datagrams.chunks(MAX_SEGMENTS) {
        let mut found = [None; MAX_SEGMENTS];
        assert_eq!(
            clear_cids(&cids(), DIRECTION, datagrams.iter().copied(), &mut found),
            MAX_SEGMENTS
        );
        let expected: Vec<_> = datagrams
            .iter()
            .map(|bytes| (bytes.len() >= MIN_PACKET).then_some(CID))
            .collect();
        assert_eq!(found[..], expected);
    }
}

#[test]
fn room_is_exact_and_a_full_packet_takes_nothing_more() {
    let mut batch = Batch::default();
    let mut packet = Builder::start(&mut batch, &header(0, 2), 1232).unwrap();
    assert_eq!(packet.room(), 1232 - 9 - 1 - 2 - TAG_LEN);
    packet.frame(&Frame::Ping).unwrap();
    let fit = packet.stream_fit(4, 1000).unwrap();
    assert_eq!(fit, packet.room() - 4);
    packet
        .stream(4, 1000, false, [&[1; 100], &vec![2; fit - 100]], None)
        .unwrap();
    assert_eq!((packet.room(), packet.size()), (0, 1232));
    assert_eq!((packet.stream_fit(4, 0), packet.datagram_fit()), (None, None));
    assert_eq!(packet.frame(&Frame::Ping), Err(WriteError::NoRoom));
    packet.pad_to(1500);
    assert_eq!(packet.size(), 1232);
}

#[test]
fn a_packet_that_bytes_fill_is_the_same_sealed_at_once_or_later() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        let cuts = [(0, 0), (1, 0), (700, 0), (700, 1), (700, 2), (0, 3), (0, 40)];
        let both = [true, false]
            .into_iter()
            .flat_map(|stream| cuts.map(|(cut, short)| (stream, cut, short)));
        for (stream, cut, short) in both {
            let [now, later] = [true, false].map(|at_once| {
                let (mut client, _) = sessions(suite);
                let mut batch = Batch::default();
                let mut packet = Builder::start(&mut batch, &header(7, 2), 1232).unwrap();
                packet.frame(&Frame::Ping).unwrap();
                let fit = if stream {
                    packet.stream_fit(4, 1000)
                } else {
                    packet.datagram_fit()
                };
                let bytes: Vec<u8> = (0..fit.unwrap() - short).map(|at| at as u8).collect();
                let (first, last) = bytes.split_at(cut);
                let keys = at_once.then_some((&mut client.seal, 0));
                let written = if stream {
                    packet.stream(4, 1000, false, [first, last], keys)
                } else {
                    packet.datagram([first, last], keys)
                };
                written.unwrap();
                assert_eq!(packet.room() == 0, short <= 2);
                packet.seal(&mut client.seal, 0).unwrap();
                batch.bytes().to_vec()
            });
            assert!(now == later, "{suite:?} {stream} {cut} {short}");
        }
    }
}

#[test]
fn a_batch_of_full_packets_keeps_its_stride_whatever_the_last_frame_is() {
    let (mut client, _) = sessions(Suite::ChaCha20Poly1305);
    for missing in 0..4 {
        let mut batch = Batch::default();
        for number in 0..3 {
            let number = number + 10 * missing as u64;
            let mut packet = Builder::start(&mut batch, &header(number, 2), 1232).unwrap();
            let fit = packet.datagram_fit().unwrap();
            packet.datagram([&vec![7; fit - missing], &[]], None).unwrap();
            packet.pad_to(1232);
            assert_eq!(packet.seal(&mut client.seal, 0), Ok(1232));
        }
    }
}

#[test]
fn a_packet_a_little_shorter_than_those_before_it_need_not_end_the_batch() {
    let (mut client, _) = sessions(Suite::ChaCha20Poly1305);
    let mut batch = Batch::default();
    for (number, len) in [(0, 1000), (1, 980), (2, 900)] {
        let mut packet = Builder::start(&mut batch, &header(number, 2), 1232).unwrap();
        packet.datagram([&vec![7; len], &[]], None).unwrap();
        packet.even_out(32);
        packet.seal(&mut client.seal, 0).unwrap();
    }
    let lengths: Vec<usize> = batch.segments().map(<[u8]>::len).collect();
    assert_eq!(lengths[..2], [batch.segment_size(); 2]);
    assert_eq!(lengths[2], lengths[0] - 100);
}

#[test]
fn a_packet_that_is_dropped_or_refused_leaves_no_trace() {
    let (mut client, _) = sessions(Suite::ChaCha20Poly1305);
    let mut batch = sealed_batch(&mut client, [5], 10);
    let before = batch.bytes().to_vec();
    let mut abandoned = Builder::start(&mut batch, &header(6, 2), 1232).unwrap();
    abandoned.frame(&Frame::Ping).unwrap();
    let empty = Builder::start(&mut batch, &header(6, 2), 1232).unwrap();
    assert_eq!(empty.seal(&mut client.seal, 0), Err(SealError::Empty));
    let mut again = Builder::start(&mut batch, &header(5, 2), 1232).unwrap();
    again.frame(&Frame::Ping).unwrap();
    assert_eq!(
        again.seal(&mut client.seal, 0),
        Err(SealError::Key(KeyExhausted::CounterReused))
    );
    assert_eq!((batch.count(), batch.bytes()), (1, before.as_slice()));
    assert!(Builder::start(&mut batch, &header(6, 4), MAX_OVERHEAD).is_none());
    assert!(Builder::start(&mut batch, &header(6, 4), MAX_OVERHEAD + 1).is_some());
}

#[test]
fn frames_of_all_ways_of_appending_come_out_in_order() {
    let (mut client, mut server) = sessions(Suite::Aes256Gcm);
    let mut batch = Batch::default();
    let mut packet = Builder::start(&mut batch, &header(1, 4), 1232).unwrap();
    assert_eq!(packet.ack(0, 5, [8..=9, 1..=3].into_iter(), None), Ok(2));
    packet.stream(0, 0, true, [b"ab", b"cd"], None).unwrap();
    packet.datagram([b"x", b"yz"], None).unwrap();
    packet.pad_to(200);
    assert_eq!(packet.seal(&mut client.seal, 0), Ok(200));
    mask_batch(&mut batch, &client.seal, &cids(), DIRECTION);
    let mut datagram = batch.bytes().to_vec();
    let frames = receive(&mut server, &mut datagram, 1).unwrap();
    let frames: Vec<_> = Frames::new(frames).map(Result::unwrap).collect();
    assert!(matches!(frames[0], Frame::PathAck(ack) if ack.ranges().eq([8..=9, 1..=3])));
    assert_eq!(
        frames[1],
        Frame::Stream(Stream {
            id: 0,
            offset: 0,
            data: b"abcd",
            fin: true
        })
    );
    assert_eq!(frames[2], Frame::Datagram(Datagram { data: b"xyz" }));
    assert!(matches!(frames[3..], [Frame::Padding { .. }]));
}
