//! Streams as `std::io::Read` and `Write`, with timeouts: `cargo run -p transport-api --example blocking`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress, EndpointConfig,
    OsEntropy, RelayIdentity, RelayStatics, ServerOptions, Wait,
};

const APP: &[u8] = b"lines/1";

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

fn main() -> Result<(), Box<dyn Error>> {
    let (server, bundle) = relay(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let client = Endpoint::bind(EndpointConfig::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
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
