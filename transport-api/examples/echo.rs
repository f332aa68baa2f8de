//! Both ends of an echo in one program: `cargo run -p transport-api --example echo -- "some words"`.

mod common;

use std::error::Error;
use std::time::Duration;

use common::{loopback, relay};
use transport_api::{ConnectOptions, Connection, Endpoint, EndpointConfig, Wait};

const APP: &[u8] = b"echo/1";

fn serve(connection: &Connection) -> Result<(), Box<dyn Error>> {
    // Until the client closes.
    while let Ok((mut send, mut recv)) = connection.accept_bi().wait() {
        let data = recv.read_to_end(1 << 20).wait()?;
        send.write_all(&data).wait()?;
        send.finish()?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let words = std::env::args().nth(1).unwrap_or_else(|| "hello".into());
    let (server, bundle) = relay(APP, 0)?;
    let serving = std::thread::spawn(move || {
        if let Some(incoming) = server.accept().wait()
            && let Err(error) = serve(&incoming.accept())
        {
            eprintln!("server: {error}");
        }
    });

    let client = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let connection = client.connect(ConnectOptions::new(bundle, APP)).wait()?;
    let (mut send, mut recv) = connection.open_bi().wait()?;
    send.write_all(words.as_bytes()).wait()?;
    send.finish()?;
    let back = recv.read_to_end(1 << 20).wait()?;
    eprintln!(
        "{} in {:?}",
        String::from_utf8_lossy(&back),
        connection.handshake_duration()
    );

    connection.finish_and_close(Duration::from_secs(5)).wait()?;
    client.wait_idle().wait();
    serving.join().map_err(|_| "the server panicked")?;
    Ok(())
}
