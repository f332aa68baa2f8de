//! Streams between real sockets.

mod common;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use common::{PATIENCE, Pair, checksum, pair, pattern};
use transport_api::{Class, ReadError, ReadToEndError, Wait, WriteError};

fn echo_one(pair: &Pair, data: &[u8]) -> Vec<u8> {
    let server = pair.at_server.clone();
    let echo = std::thread::spawn(move || {
        let (mut send, mut recv) = server.accept_bi().wait_timeout(PATIENCE).unwrap().unwrap();
        let data = recv.read_to_end(1 << 20).wait_timeout(PATIENCE).unwrap().unwrap();
        send.write_all(&data).wait_timeout(PATIENCE).unwrap().unwrap();
        send.finish().unwrap();
        assert_eq!(send.stopped().wait_timeout(PATIENCE).unwrap().unwrap(), None);
    });
    let (mut send, mut recv) = pair.at_client.open_bi().wait_timeout(PATIENCE).unwrap().unwrap();
    send.write_all(data).wait_timeout(PATIENCE).unwrap().unwrap();
    send.finish().unwrap();
    let back = recv.read_to_end(1 << 20).wait_timeout(PATIENCE).unwrap().unwrap();
    echo.join().unwrap();
    back
}

#[test]
fn echo() {
    let pair = pair();
    assert_eq!(echo_one(&pair, b"hello"), b"hello");
    assert_eq!(echo_one(&pair, b""), b"");
    let long = pattern(300_000);
    assert_eq!(echo_one(&pair, &long), long);
}

#[test]
fn blocking_read_and_write() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    let writer = std::thread::spawn(move || {
        writeln!(send, "first").unwrap();
        send.write_all(&pattern(100_000)).wait().unwrap();
        send.flush().unwrap();
    });
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let mut data = Vec::new();
    recv.read_to_end(1 << 20)
        .wait_timeout(PATIENCE)
        .unwrap()
        .map(|all| data = all)
        .unwrap();
    writer.join().unwrap();
    assert_eq!(&data[..6], b"first\n");
    assert_eq!(&data[6..], pattern(100_000));
    // Dropping the sender finished the stream: its end was read.
    let mut more = [0; 8];
    assert_eq!(std::io::Read::read(&mut recv, &mut more).unwrap(), 0);
    let _ = recv.by_ref();
}

#[test]
fn sixty_four_mebibytes_arrive_whole() {
    const TOTAL: usize = 64 << 20;
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    send.set_class(Class::Bulk);
    let writer = std::thread::spawn(move || {
        let piece = pattern(1 << 20);
        let mut sum = 0xcbf2_9ce4_8422_2325;
        for _ in 0..TOTAL / piece.len() {
            send.write_all(&piece).wait().unwrap();
            sum = checksum(sum, &piece);
        }
        send.finish().unwrap();
        assert_eq!(send.stopped().wait_timeout(PATIENCE).unwrap().unwrap(), None);
        sum
    });
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let (mut sum, mut total) = (0xcbf2_9ce4_8422_2325, 0);
    let mut buffer = vec![0; 256 * 1024];
    while let Some(count) = recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap().unwrap() {
        sum = checksum(sum, &buffer[..count]);
        total += count;
    }
    assert_eq!(total, TOTAL);
    assert_eq!(writer.join().unwrap(), sum);
}

#[test]
fn a_hundred_streams_at_once() {
    let pair = pair();
    let server = pair.at_server.clone();
    let echo = std::thread::spawn(move || {
        for _ in 0..100 {
            let (mut send, mut recv) = server.accept_bi().wait_timeout(PATIENCE).unwrap().unwrap();
            let data = recv.read_to_end(1 << 20).wait_timeout(PATIENCE).unwrap().unwrap();
            send.write_all(&data).wait_timeout(PATIENCE).unwrap().unwrap();
        }
    });
    let clients: Vec<_> = (0..100_usize)
        .map(|index| {
            let (mut send, recv) = pair.at_client.open_bi().wait_timeout(PATIENCE).unwrap().unwrap();
            send.write_all(&pattern(index * 97))
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap();
            send.finish().unwrap();
            (index, recv)
        })
        .collect();
    for (index, mut recv) in clients {
        let back = recv.read_to_end(1 << 20).wait_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(back, pattern(index * 97), "stream {index}");
    }
    echo.join().unwrap();
}

#[test]
fn reset_reaches_the_reader_and_stop_the_writer() {
    let pair = pair();
    let (mut send, mut recv) = pair.at_client.open_bi().wait().unwrap();
    send.write_all(b"x").wait().unwrap();
    let (mut far_send, mut far_recv) = pair
        .at_server
        .accept_bi()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    send.reset(17).unwrap();
    assert_eq!(send.write(b"y").wait(), Err(WriteError::Finished));
    let error = far_recv
        .read_to_end(100)
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap_err();
    assert_eq!(error, ReadToEndError::Read(ReadError::Reset(17)));

    recv.stop(18).unwrap();
    assert_eq!(
        far_send.stopped().wait_timeout(PATIENCE).unwrap().unwrap(),
        Some(18)
    );
    assert_eq!(
        far_send.write(b"z").wait_timeout(PATIENCE).unwrap(),
        Err(WriteError::Stopped(18))
    );
    let mut buffer = [0; 4];
    assert_eq!(recv.read(&mut buffer).wait(), Err(ReadError::Stopped));
}

#[test]
fn dropping_a_reader_stops_the_writer_with_code_zero() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    send.write_all(b"x").wait().unwrap();
    drop(
        pair.at_server
            .accept_uni()
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap(),
    );
    assert_eq!(send.stopped().wait_timeout(PATIENCE).unwrap().unwrap(), Some(0));
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_loses_nothing() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    let piece = pattern(64 * 1024);
    let mut written = 0_usize;
    // Far more than all windows and buffers together: the writer must come to a halt.
    while let Some(result) = send
        .write(&piece[written % piece.len()..])
        .wait_timeout(Duration::from_millis(700))
    {
        written += result.unwrap();
        assert!(written < 40 << 20, "nothing holds the writer back");
    }
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    drop(send);
    let mut buffer = vec![0; 100_000];
    let mut read = 0;
    while let Some(count) = recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap().unwrap() {
        for (offset, byte) in buffer[..count].iter().enumerate() {
            assert_eq!(
                *byte,
                piece[(read + offset) % piece.len()],
                "byte {}",
                read + offset
            );
        }
        read += count;
    }
    assert_eq!(read, written);
}

#[test]
fn read_to_end_has_a_limit() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    send.write_all(&pattern(1000)).wait().unwrap();
    drop(send);
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let error = recv.read_to_end(999).wait_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error, ReadToEndError::TooLong { limit: 999 });
}

#[test]
fn cancelled_futures_lose_nothing() {
    let pair = pair();
    let moment = Duration::from_millis(5);
    assert!(pair.at_server.accept_uni().wait_timeout(moment).is_none());
    assert!(pair.at_server.accept_bi().wait_timeout(moment).is_none());
    assert!(pair.at_server.read_datagram().wait_timeout(moment).is_none());
    let mut send = pair.at_client.open_uni().wait().unwrap();
    send.write_all(b"one").wait().unwrap();
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let mut buffer = [0; 16];
    assert_eq!(
        recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap().unwrap(),
        Some(3)
    );
    for _ in 0..20 {
        assert!(recv.read(&mut buffer).wait_timeout(moment).is_none());
    }
    send.write_all(b"two").wait().unwrap();
    assert_eq!(
        recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap().unwrap(),
        Some(3)
    );
    assert_eq!(&buffer[..3], b"two");
}

#[test]
fn streams_opened_for_a_dropped_future_are_given_back() {
    let mut limits = transport_api::TransportOptions::default();
    limits.limits.max_streams_uni = 4;
    let pair = common::pair_with(limits.clone(), limits);
    let held: Vec<_> = (0..4)
        .map(|_| pair.at_client.open_uni().wait_timeout(PATIENCE).unwrap().unwrap())
        .collect();
    // The fifth waits for the peer's permission, which comes when one of the four has ended.
    let mut fifth = Box::pin(pair.at_client.open_uni());
    assert!(fifth.as_mut().wait_timeout(Duration::from_millis(50)).is_none());
    for mut send in held {
        send.write_all(b"x").wait().unwrap();
        drop(send);
        let mut recv = pair
            .at_server
            .accept_uni()
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap();
        assert_eq!(
            recv.read_to_end(10).wait_timeout(PATIENCE).unwrap().unwrap(),
            b"x"
        );
    }
    let mut send = fifth
        .as_mut()
        .wait_timeout(PATIENCE)
        .expect("the peer allows more")
        .unwrap();
    send.write_all(b"five").wait().unwrap();
    drop(send);
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    assert_eq!(
        recv.read_to_end(10).wait_timeout(PATIENCE).unwrap().unwrap(),
        b"five"
    );
}
