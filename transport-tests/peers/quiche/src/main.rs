//! quiche, which brings no event loop: one thread around `ppoll`, bursts by GSO and GRO, packets sent when quiche says.

mod client;
mod endpoint;
mod server;

use std::os::unix::process::CommandExt;

use clap::Parser;
use endpoint::Endpoint;
use peers_common::{
    ALPN, CONNECTION_WINDOW, IDLE_TIMEOUT, MAX_PAYLOAD, Result, STREAM_WINDOW,
    options::{Cipher, End, Options, ready},
};
use quiche::{Config, PROTOCOL_VERSION};

/// The only stream of a connection: the first of the client's.
const STREAM: u64 = 0;
/// BoringSSL prefers ChaCha20 where it believes there are no AES instructions.
const NO_AES: (&str, &str) = ("OPENSSL_ia32cap", "~0x200000000000000");

fn main() -> Result<()> {
    let options = Options::parse();
    if options.cipher == Cipher::Chacha && std::env::var_os(NO_AES.0).is_none() {
        // It looks before `main`, so it must be told before the program starts.
        let mut again = std::process::Command::new(std::env::current_exe()?);
        let error = again
            .args(std::env::args_os().skip(1))
            .env(NO_AES.0, NO_AES.1)
            .exec();
        return Err(error.into());
    }
    match options.end {
        End::Server => {
            let mut endpoint = Endpoint::bind(options.address, config(&options)?)?;
            ready(&options);
            endpoint.run(&mut server::Server::new())
        }
        End::Client => {
            let mut endpoint = Endpoint::bind(options.any(), config(&options)?)?;
            endpoint.aim(options.address)?;
            let mut client = client::Client::new(options.clone());
            endpoint.run(&mut client)?;
            client.report()
        }
    }
}

fn config(options: &Options) -> Result<Config> {
    let mut config = Config::new(PROTOCOL_VERSION)?;
    let certificate = options.certificate();
    let certificate = certificate.to_str().ok_or("the path of the certificate")?;
    if options.end == End::Server {
        config.load_cert_chain_from_pem_file(certificate)?;
        config.load_priv_key_from_pem_file(options.key().to_str().ok_or("the path of the key")?)?;
    } else {
        config.load_verify_locations_from_file(certificate)?;
        config.verify_peer(true);
    }
    config.set_curves_list(if options.hybrid {
        "X25519MLKEM768"
    } else {
        "X25519"
    })?;
    config.set_application_protos(&[ALPN])?;
    config.set_max_idle_timeout(IDLE_TIMEOUT.as_millis() as u64);
    config.set_max_recv_udp_payload_size(MAX_PAYLOAD);
    config.set_max_send_udp_payload_size(MAX_PAYLOAD);
    config.set_initial_max_data(CONNECTION_WINDOW);
    config.set_max_connection_window(CONNECTION_WINDOW);
    config.set_initial_max_stream_data_bidi_local(STREAM_WINDOW);
    config.set_initial_max_stream_data_bidi_remote(STREAM_WINDOW);
    config.set_max_stream_window(STREAM_WINDOW);
    config.set_initial_max_streams_bidi(16);
    config.enable_dgram(true, 4096, 1024);
    Ok(config)
}
