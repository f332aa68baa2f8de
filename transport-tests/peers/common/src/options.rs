//! The command line of every measured program.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Which side of the connection a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum End {
    Server,
    Client,
}

/// What the client measures, as in `adit bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    Bulk,
    Datagrams,
    Handshakes,
    Idle,
    Echo,
}

impl Workload {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Datagrams => "datagrams",
            Self::Handshakes => "handshakes",
            Self::Idle => "idle",
            Self::Echo => "echo",
        }
    }
}

/// The cipher of packets; both ends must be told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cipher {
    /// AES-128-GCM for QUIC, AES-256-GCM for the floor: what each uses where AES instructions are.
    Aes,
    /// AES-256-GCM for those who can be told: the work adit has with `aes`.
    Aes256,
    /// ChaCha20-Poly1305.
    Chacha,
    /// Of the floor alone.
    None,
}

/// One end of a measurement.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    #[arg(value_enum)]
    pub end: End,
    /// Where the server listens.
    pub address: SocketAddr,
    #[arg(long, value_enum, default_value = "bulk")]
    pub workload: Workload,
    #[arg(long, value_enum, default_value = "aes")]
    pub cipher: Cipher,
    /// Exchange keys by X25519MLKEM768 instead of X25519.
    #[arg(long)]
    pub hybrid: bool,
    /// Directory of cert.pem and key.pem.
    #[arg(long, default_value = ".")]
    pub certs: PathBuf,
    /// How long the workload runs once connections stand.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Connections that are open (idle) or being opened (handshakes) at the same time.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Bytes of a datagram or of an echo: 1200 and 1024 if not given.
    #[arg(long)]
    pub size: Option<usize>,
}

impl Options {
    /// `--seconds` as a duration.
    pub fn run_for(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Bytes of one datagram or one echo.
    pub fn size(&self) -> usize {
        self.size.unwrap_or(if self.workload == Workload::Echo {
            1024
        } else {
            1200
        })
    }

    /// Any address of the family of the server's, to bind a client to.
    pub fn any(&self) -> SocketAddr {
        match self.address {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
        }
    }

    /// The certificate, self-signed, which clients trust.
    pub fn certificate(&self) -> PathBuf {
        self.certs.join("cert.pem")
    }

    /// The key to it.
    pub fn key(&self) -> PathBuf {
        self.certs.join("key.pem")
    }
}

/// Tells the script that the server listens; the word of `adit bench server`.
pub fn ready(options: &Options) {
    eprintln!("READY {}", options.address);
}
