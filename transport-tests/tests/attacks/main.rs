//! The table of attacks: each row of `docs/attacks.md` is a test, and each bound is measured.
//!
//! Memory is what the allocator handed to the test's thread, or what the endpoint says of itself; work is processor time of
//! the thread, calls for memory, or counters.

mod acks;
mod datagrams;
mod field;
mod frames;
mod handshake;
mod ids;
mod keys;
mod numbers;
mod page;
mod paths;
mod streams;

use transport_core::wire::frame::{Frame, Stream};
use transport_core::{By, CloseReason, DropReason};
use transport_tests::misbehave::Raw;
use transport_tests::oracle::memory::Counting;
use transport_tests::pair::{Options, Pair, Passing};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A relay and a scripted client that is connected to it.
fn pair(seed: u64) -> (Pair, Raw) {
    let mut pair = Pair::idle(Options::new(seed));
    let raw = Raw::join(&mut pair, seed);
    (pair, raw)
}

fn stream(id: u64, offset: u64, data: &[u8], fin: bool) -> Frame<'_> {
    Frame::Stream(Stream {
        id,
        offset,
        data,
        fin,
    })
}

/// From now on the pipe keeps nothing: what is held is held by the relay.
fn forget_what_is_sent(pair: &mut Pair, raw: &mut Raw) {
    raw.forget(pair);
    pair.recording = false;
    pair.hook(Passing::lose);
}

/// The code with which the relay ended the connection, if it did.
fn ended(pair: &Pair) -> Option<u64> {
    pair.server.closed().map(|reason| match reason {
        CloseReason::Transport { code, by: By::Local } => *code,
        other => panic!("ended otherwise: {other:?}"),
    })
}

/// What the relay dropped for `reason`.
fn dropped(pair: &Pair, reason: DropReason) -> u64 {
    pair.server.endpoint.stats().drops.get(reason)
}
