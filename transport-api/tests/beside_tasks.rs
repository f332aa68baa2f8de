//! Endpoints that live on their application's loop.

mod common;

use std::time::Duration;

use common::{APP, LOOPBACK, PATIENCE, bundle, server_options};
use transport_api::local::Loop;
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, RecvStream};

const SIZE: usize = 1024;

/// Reads one message. False: there are no more.
async fn hear(input: &mut RecvStream) -> bool {
    let (mut message, mut filled) = ([0; SIZE], 0);
    while filled < SIZE {
        match input.read(&mut message[filled..]).await {
            Ok(Some(read)) => filled += read,
            _ => return false,
        }
    }
    true
}

/// One packet asks, one answers: acknowledgements ride along on either.
#[test]
fn an_answer_carries_the_acknowledgement_of_its_question() {
    const QUESTIONS: u64 = 200;
    let mut main = Loop::new(16).expect("a loop");
    let at = main.handle();
    let server =
        Endpoint::bind_on(EndpointConfig::server(LOOPBACK, server_options()), &at).expect("a socket");
    let client = Endpoint::bind_on(EndpointConfig::client(LOOPBACK), &at).expect("a socket");
    let to = ConnectOptions::new(bundle(server.local_addr()), APP);
    at.spawn(async move {
        let connection = server.accept().await.expect("an open endpoint").accept();
        let (mut output, mut input) = connection.accept_bi().await.expect("a stream");
        while hear(&mut input).await {
            output.write_all(&[8; SIZE]).await.expect("it goes on");
        }
    })
    .expect("room for a task");
    let work = async {
        let connection = client.connect(to).await.expect("a connection");
        let (mut output, mut input) = connection.open_bi().await.expect("a stream");
        let mut before = connection.current_stats().await;
        for round in 0..=QUESTIONS {
            output.write_all(&[7; SIZE]).await.expect("it goes on");
            assert!(hear(&mut input).await, "an answer");
            if round == 0 {
                // What a beginning says besides has been said.
                at.sleep(Duration::from_millis(300)).await;
                before = connection.current_stats().await;
            }
        }
        let after = connection.current_stats().await;
        (
            after.sent_packets - before.sent_packets,
            after.received_packets - before.received_packets,
        )
    };
    let (sent, received) = main
        .run(async { at.timeout(PATIENCE, work).await })
        .expect("a loop")
        .expect("in time");
    println!("{QUESTIONS} questions: {sent} packets, {received} came back");
    // A few are about paths, keys and the rhythm of acknowledgements.
    assert!(
        sent < QUESTIONS * 5 / 4 && received < QUESTIONS * 5 / 4,
        "{sent}, {received}"
    );
}
