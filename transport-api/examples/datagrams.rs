//! Datagrams with a class, a deadline and a receipt, under each of the three queue policies:
//! `cargo run -p transport-api --example datagrams`.

mod common;

use std::error::Error;
use std::time::Duration;

use common::{loopback, relay};
use transport_api::{
    Class, ConnectOptions, Connection, DatagramOptions, DatagramOutcome, DatagramPolicy, Endpoint,
    EndpointConfig, SendDatagramError, TransportOptions, Wait,
};

const APP: &[u8] = b"ticks/1";
const TICKS: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let (server, bundle) = relay(APP, 0)?;
    for policy in [
        DatagramPolicy::DropOldest,
        DatagramPolicy::Refuse,
        DatagramPolicy::Wait,
    ] {
        let client = Endpoint::bind(EndpointConfig {
            transport: bounded(policy),
            ..EndpointConfig::client(loopback())
        })?;
        let sender = client.connect(ConnectOptions::new(bundle.clone(), APP)).wait()?;
        let receiver = server.accept().wait().ok_or("the server is closed")?.accept();
        let counting =
            std::thread::spawn(move || std::iter::from_fn(|| receiver.read_datagram().wait().ok()).count());
        let refused = send_all(&sender, policy)?;
        // One more, whose fate we want to know. Without a receipt nothing is paid for it.
        let receipt = sender
            .send_datagram_wait(b"last".to_vec(), fresh())
            .tracked()
            .wait()?;
        let fate = match receipt.wait()? {
            DatagramOutcome::Acked => "arrived",
            DatagramOutcome::Lost => "was probably lost",
            DatagramOutcome::Expired => "was too old before it could leave",
            _ => "was dropped",
        };
        let stats = sender.stats();
        let dropped = stats.datagrams_dropped + sender.datagram_drops().sent;
        sender.finish_and_close(Duration::from_secs(5)).wait()?;
        let count = counting.join().map_err(|_| "the receiver panicked")?;
        eprintln!(
            "{policy:?}: {count} of {} arrived; {refused} refused, {dropped} dropped, {} expired, {} lost; the last {fate}",
            TICKS + 1,
            stats.datagrams_expired,
            stats.datagrams_lost,
        );
    }
    Ok(())
}

/// A queue of 16 KiB in which nothing gets older than 50 ms.
fn bounded(policy: DatagramPolicy) -> TransportOptions {
    let mut transport = TransportOptions {
        datagram_policy: policy,
        ..TransportOptions::default()
    };
    transport.limits.datagram_queue_bytes = 16 * 1024;
    transport.limits.datagram_max_age = Duration::from_millis(50);
    transport
}

/// Worth nothing after a tenth of a second: dropped, not sent, should it wait that long.
fn fresh() -> DatagramOptions {
    DatagramOptions {
        class: Class::Realtime,
        deadline: Some(transport_api::now().instant + Duration::from_millis(100)),
        ..DatagramOptions::default()
    }
}

/// Sends as the policy wants it; how many were refused.
fn send_all(sender: &Connection, policy: DatagramPolicy) -> Result<u32, SendDatagramError> {
    let mut refused = 0;
    for tick in 0..TICKS {
        let mut data = vec![0; 1000.min(sender.max_datagram_size())];
        data.splice(..4, tick.to_be_bytes());
        let sent = match policy {
            DatagramPolicy::Wait => sender.send_datagram_wait(data, fresh()).wait(),
            _ => sender.send_datagram_with(data, fresh()),
        };
        match sent {
            Err(SendDatagramError::Full) => refused += 1,
            other => other?,
        }
    }
    Ok(refused)
}
