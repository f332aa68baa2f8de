//! What the measured programs share. Each is started as `PROGRAM server ADDRESS` or `PROGRAM client ADDRESS`, does the
//! work of `adit bench`, and its client prints one JSON line with the keys of `adit bench client --json`.

#[cfg(feature = "asynchronous")]
pub mod drive;
pub mod figures;
pub mod options;
pub mod socket;
#[cfg(feature = "asynchronous")]
pub mod tls;

/// Anything that may go wrong; a measurement that fails says why and ends.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Application protocol of the handshakes.
pub const ALPN: &[u8] = b"peers/1";
/// The name in the certificate.
pub const NAME: &str = "localhost";

/// Receive windows of a stream and of a connection.
pub const STREAM_WINDOW: u64 = 16 << 20;
pub const CONNECTION_WINDOW: u64 = 32 << 20;
/// Kernel socket buffers asked for by everybody.
pub const SOCKET_BUFFER: usize = 4 << 20;
/// UDP payload of a packet of 1500 bytes over IPv4.
pub const MAX_PAYLOAD: usize = 1472;
/// No connection ends by itself while it is measured.
pub const IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// What is written to a stream at once.
pub const CHUNK: usize = 256 * 1024;
/// After the sender of datagrams has stopped, what is on the way arrives within this.
pub const QUIET: std::time::Duration = std::time::Duration::from_millis(300);

/// The first byte of a connection's only stream says what the stream is for.
pub mod purpose {
    /// Bytes to be counted until the stream ends; the answer is a count.
    pub const BULK: u8 = b'b';
    /// Bytes that come back.
    pub const ECHO: u8 = b'e';
    /// Nothing until the sender of datagrams has stopped and ends the stream; the answer is a count.
    pub const DATAGRAMS: u8 = b'd';
}
