//! Blocks between an application and a scheduler: they change hands, and no more of them are made than are in use.

use super::*;
use crate::stream::store::BLOCK;

#[test]
fn a_block_is_sent_from_the_memory_the_writer_filled() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    let mut data = Blocks::default();
    data.push(&vec![3; 5 * BLOCK / 2]);
    for len in [BLOCK, BLOCK, BLOCK / 2] {
        let place = data.front().as_ptr();
        assert_eq!(data.front().len(), len);
        let mut one = Blocks::default();
        one.refill(&mut data, 1);
        assert_eq!(pair.client.write_blocks(id, &mut one), Ok(len));
        let send = pair.client.streams.find(id).unwrap().send.as_ref().unwrap();
        let end = send.buffered();
        assert_eq!(send.slices((end - len) as u64, len)[0].as_ptr(), place);
    }
}

#[test]
fn a_rest_that_finds_no_room_stays_and_no_block_is_split_for_it() {
    let limits = Limits {
        send_buffer: 64 * 1024 + 100,
        max_send_buffer: 64 * 1024 + 100,
        ..Limits::default()
    };
    let mut pair = Pair::new(&limits);
    let id = pair.client.open(Direction::Uni).unwrap();
    let mut data = Blocks::default();
    data.push(&vec![3; 10 * BLOCK]);
    assert_eq!(pair.client.write_blocks(id, &mut data), Ok(8 * BLOCK));
    assert_eq!((data.len(), pair.client.writable(id)), (2 * BLOCK, 100));
    assert_eq!(pair.client.write_blocks(id, &mut data), Err(WriteError::Blocked));
    pair.settle();
    assert_eq!(events(&mut pair.client), [Event::Writable { id }]);
    assert_eq!(pair.client.write_blocks(id, &mut data), Ok(2 * BLOCK));
    // What does not come in blocks goes on from there, and the queue after it.
    assert_eq!(pair.client.write(id, &[4; 10]), Ok(10));
    data.push(&[5; 10]);
    assert_eq!(pair.client.write_blocks(id, &mut data), Ok(10));
    pair.client.finish(id).unwrap();
    pair.settle();
    let (all, fin) = read_all(&mut pair.server, id);
    assert!(fin && all == [vec![3; 10 * BLOCK], vec![4; 10], vec![5; 10]].concat());
}

#[test]
fn a_flow_in_blocks_holds_the_same_few_of_them_for_ever() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    let (mut data, mut read) = (Blocks::default(), Blocks::default());
    let piece: Vec<u8> = (0..60_001u32).map(|at| (at >> 6) as u8).collect();
    let mut out = vec![0; piece.len()];
    let (mut most, mut least) = (0, usize::MAX);
    for round in 0..100 {
        data.push(&piece);
        assert_eq!(pair.client.write_blocks(id, &mut data), Ok(piece.len()));
        pair.settle();
        let got = pair.server.read_blocks(id, &mut read, usize::MAX).unwrap();
        assert_eq!((got.bytes, read.pull(&mut out)), (piece.len(), piece.len()));
        assert!(out == piece);
        let blocks =
            (data.memory() + pair.client.pool.memory() + read.memory() + pair.server.pool.memory()) / BLOCK;
        if round >= 20 {
            (most, least) = (most.max(blocks), least.min(blocks));
        }
    }
    assert!(most <= 40 && most - least <= 2, "{least} to {most} blocks");
}

#[test]
fn a_writer_that_writes_little_gives_back_what_it_was_lent() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    let mut data = Blocks::default();
    for len in [100_000, 100_000, 10, 10] {
        data.push(&vec![1; len]);
        pair.client.write_blocks(id, &mut data).unwrap();
        pair.settle();
        read_all(&mut pair.server, id);
    }
    assert!(data.memory() < 3 * BLOCK, "{}", data.memory());
    pair.client.finish(id).unwrap();
    pair.client.recycle(&mut data);
    assert!(data.memory() < BLOCK, "{}", data.memory());
}
