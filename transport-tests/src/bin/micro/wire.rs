//! The frames that make up nearly all packets.

use std::{hint::black_box, ops::RangeInclusive};

use transport_core::wire::{
    Frame, Frames, Writer,
    frame::{Stream, ack},
};

use crate::Bench;

/// A frame takes less than the clock can tell apart.
const REPEAT: u32 = 1000;
const PAYLOAD: [u8; 1400] = [0x5a; 1400];

pub(crate) fn run(bench: &Bench) {
    let mut buffer = [0; 1472];
    let stream = Frame::Stream(Stream {
        id: 4,
        offset: 1 << 24,
        data: &PAYLOAD,
        fin: false,
    });
    repeat(bench, "stream_encode", &mut buffer, |buffer| {
        let _ = stream.encode(&mut Writer::new(black_box(buffer)));
    });
    repeat(bench, "stream_decode", &mut buffer, |buffer| {
        black_box(Frames::new(black_box(buffer)).next());
    });
    for count in [1, 64] {
        let ranges = ranges(count);
        let name = format!("path_ack_encode_{count}");
        repeat(bench, &name, &mut buffer, |buffer| {
            let mut out = Writer::new(black_box(buffer));
            let _ = ack::encode(&mut out, 0, 100, ranges.iter().cloned(), None);
        });
        repeat(
            bench,
            &format!("path_ack_decode_{count}"),
            &mut buffer,
            |buffer| {
                if let Some(Ok(Frame::PathAck(frame))) = Frames::new(black_box(buffer)).next() {
                    frame.ranges().for_each(|range| {
                        black_box(range);
                    });
                }
            },
        );
    }
}

fn repeat(bench: &Bench, name: &str, buffer: &mut [u8], mut once: impl FnMut(&mut [u8])) {
    bench.measure(
        name,
        REPEAT,
        &mut &mut *buffer,
        |_| (),
        |buffer, ()| {
            (0..REPEAT).for_each(|_| once(buffer));
        },
    );
}

/// Runs of ten numbers with gaps of two between, the highest first.
fn ranges(count: u64) -> Vec<RangeInclusive<u64>> {
    let first = |index: u64| 1_000_000 + (count - index) * 12;
    (0..count).map(|index| first(index)..=first(index) + 9).collect()
}
