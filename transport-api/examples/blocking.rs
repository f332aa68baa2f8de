//! Streams as `std::io::Read` and `Write`, with timeouts: `cargo run -p transport-api --example blocking`.

mod common;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use common::{loopback, relay};
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, Wait};

const APP: &[u8] = b"lines/1";

fn main() -> Result<(), Box<dyn Error>> {
    let (server, bundle) = relay(APP, 0)?;
    let client = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let connecting = client.connect(ConnectOptions::new(bundle, APP));
    let connection = connecting
        .wait_timeout(Duration::from_secs(10))
        .ok_or("no answer in ten seconds")??;
    let accepted = server.accept().wait().ok_or("the server is closed")?.accept();

    // One thread a direction, as with a TCP socket.
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        let Ok((mut send, recv)) = accepted.accept_bi().wait() else {
            return Ok(());
        };
        for line in BufReader::new(recv).lines() {
            writeln!(send, "{}", line?.to_uppercase())?;
        }
        send.finish()?;
        // The last handle closes: stay until the client has everything.
        let _ = send.stopped().wait();
        Ok(())
    });
    let (mut send, recv) = connection.open_bi().wait()?;
    for line in ["one", "two", "three"] {
        writeln!(send, "{line}")?;
    }
    send.finish()?;
    for line in BufReader::new(recv).lines() {
        eprintln!("{}", line?);
    }
    answering.join().map_err(|_| "the server panicked")??;
    Ok(())
}
