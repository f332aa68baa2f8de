//! Both ends of an echo in one program: `cargo run -p transport-api --example echo -- "some words"`.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint, EndpointAddress,
    EndpointConfig, OsEntropy, RelayIdentity, RelayStatics, ServerOptions, Wait,
};

const APP: &[u8] = b"echo/1";

/// A relay makes its keys once, and signs a bundle that clients get by any way they trust.
fn relay(listen: SocketAddr) -> Result<(Endpoint, Bundle), Box<dyn Error>> {
    let identity = RelayIdentity::generate(&mut OsEntropy)?;
    let statics = RelayStatics::generate(&mut OsEntropy)?;
    let options = ServerOptions::open(identity.relay_id(), statics.clone(), 1, APP);
    let endpoint = Endpoint::bind(EndpointConfig::server(listen, options))?;
    let (address, now) = (endpoint.local_addr(), transport_api::now().unix_ms / 1000);
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 86_400,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(address.ip()),
            port: address.port(),
            cover: 0,
        }],
    };
    let bundle = Bundle::parse(&identity.sign_bundle(&draft, &statics)?)?;
    Ok((endpoint, bundle))
}

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
    let (server, bundle) = relay(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let serving = std::thread::spawn(move || {
        if let Some(incoming) = server.accept().wait()
            && let Err(error) = serve(&incoming.accept())
        {
            eprintln!("server: {error}");
        }
    });

    let client = Endpoint::bind(EndpointConfig::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
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
