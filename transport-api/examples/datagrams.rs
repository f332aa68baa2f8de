//! Datagrams with a class and a deadline, and what became of them: `cargo run -p transport-api --example datagrams`.

mod common;

use std::error::Error;
use std::time::Duration;

use common::{loopback, relay};
use transport_api::{
    Class, ConnectOptions, DatagramOptions, DatagramPolicy, Endpoint, EndpointConfig, TransportOptions, Wait,
};

const APP: &[u8] = b"ticks/1";
const TICKS: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let (server, bundle) = relay(APP, 0)?;
    // A sender that would rather wait than lose: see `DatagramPolicy` for the other two.
    let transport = TransportOptions {
        datagram_policy: DatagramPolicy::Wait,
        ..TransportOptions::default()
    };
    let config = EndpointConfig::client(loopback());
    let client = Endpoint::bind(EndpointConfig { transport, ..config })?;
    let sender = client.connect(ConnectOptions::new(bundle, APP)).wait()?;
    let receiver = server.accept().wait().ok_or("the server is closed")?.accept();

    let counting = std::thread::spawn(move || {
        let mut count = 0;
        while let Ok(tick) = receiver.read_datagram().wait() {
            count += u32::from(tick.len() == 4);
        }
        count
    });
    for tick in 0..TICKS {
        // Worth nothing after a tenth of a second: it is dropped, not sent, should it wait that long.
        let deadline = Some(transport_api::now().instant + Duration::from_millis(100));
        let options = DatagramOptions {
            class: Class::Realtime,
            deadline,
            early: false,
            notify: false,
        };
        sender
            .send_datagram_wait(tick.to_be_bytes().to_vec(), options)
            .wait()?;
    }
    sender.finish_and_close(Duration::from_secs(5)).wait()?;
    let count = counting.join().map_err(|_| "the receiver panicked")?;
    let stats = sender.stats();
    eprintln!(
        "{count} of {TICKS} arrived; {} lost, {} expired, round trip {:?}",
        stats.datagrams_lost, stats.datagrams_expired, stats.srtt
    );
    Ok(())
}
