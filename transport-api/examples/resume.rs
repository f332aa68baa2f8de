//! Coming back with a ticket, and a request that needs no round trip: `cargo run -p transport-api --example resume`.

mod common;

use std::error::Error;

use common::{loopback, relay};
use transport_api::{ClientTicket, ConnectOptions, Endpoint, EndpointConfig, Wait};

const APP: &[u8] = b"lookup/1";

fn main() -> Result<(), Box<dyn Error>> {
    let (server, bundle) = relay(APP, 4096)?;
    std::thread::spawn(move || serve(&server));
    let client = Endpoint::bind(EndpointConfig::client(loopback()))?;

    // The first time all keys are exchanged. Tickets come a little later.
    let first = client.connect(ConnectOptions::new(bundle.clone(), APP)).wait()?;
    eprintln!("full handshake: {:?}", first.handshake_duration());
    let ticket = first.tickets().wait()?;
    // It is as secret as a key, and good for one connection: remove it from where it is kept before it is used.
    let kept = ticket.to_bytes();
    first.close(0, b"");

    let options = ConnectOptions {
        ticket: Some(ClientTicket::from_bytes(&kept)?),
        ..ConnectOptions::new(bundle, APP)
    };
    let connection = client.connect_early(options).wait()?;
    let (mut send, mut recv) = connection.open_bi().wait()?;
    // A question may be asked twice; an order may not, and must not be marked.
    send.allow_early();
    send.write_all(b"example.org").wait()?;
    send.finish()?;
    let answer = recv.read_to_end(1000).wait()?;
    eprintln!("answer: {}", answer.escape_ascii());
    eprintln!(
        "taken before the handshake was over: {}",
        connection.early_accepted().wait()?
    );
    eprintln!(
        "resumed: {} in {:?}",
        connection.resumed(),
        connection.handshake_duration()
    );
    Ok(())
}

fn serve(server: &Endpoint) {
    while let Some(incoming) = server.accept().wait() {
        let connection = incoming.accept();
        std::thread::spawn(move || {
            while let Ok((mut send, mut recv)) = connection.accept_bi().wait() {
                let Ok(question) = recv.read_to_end(1000).wait() else {
                    continue;
                };
                // Looking something up changes nothing, so it does not matter whether the question is a copy.
                let early = connection.is_early();
                let answer = format!("{} (early: {early})", question.escape_ascii());
                if send.write_all(answer.as_bytes()).wait().is_ok() && send.finish().is_ok() {
                    // The last handle closes: stay until the client has everything.
                    let _ = send.stopped().wait();
                }
            }
        });
    }
}
