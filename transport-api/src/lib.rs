//! Encrypted post-quantum transport for relays and VPNs: endpoints, connections, streams and datagrams.
//!
//! One driver thread per [`Endpoint`] owns the socket, the clock and the packet engine (`transport_core`). Handles are
//! plain futures on `std::task::Waker`, so any executor will do, and each future has a blocking face: [`Wait`].
//! Streams are also `std::io::Read` and `std::io::Write`.
//!
//! Laws:
//! * A handle never waits for the network under a lock, and the driver never waits for a handle.
//! * Every queue is bounded. A reader that does not read stops the sender, not this machine's memory.
//! * Each future says whether it is cancel-safe, and what is lost if not.
//! * The clock is read in one place (`driver/clock.rs`), and so is the system's randomness (`driver/entropy.rs`).
#![deny(unsafe_code)]

mod addresses;
mod carrier;
mod config;
mod connection;
mod datagram;
mod driver;
mod endpoint;
mod engine;
mod error;
mod few;
mod paths;
mod resume;
mod sessions;
mod stream;
mod wait;

pub mod http;
pub mod ip;
pub mod local;
pub mod masque;
pub mod relay;
pub mod tun;
pub mod tunnel;

pub use addresses::{Addresses, ObservedChanged, Offered};
pub use carrier::{AttachError, Carrier, CarrierFigures, CarrierInput};
pub use config::{
    ConnectOptions, DatagramPolicy, EndpointConfig, ServerOptions, TransportOptions, resolve_endpoint,
};
pub use connection::{
    AcceptBi, AcceptUni, BundleUpdate, Closed, Connection, FinishAndClose, OpenBi, OpenUni,
};
pub use datagram::{
    DatagramDrops, DatagramOutcome, DatagramReceipt, MaxDatagramSizeChanged, ReadDatagram, SendDatagram,
    SendTracked,
};
pub use driver::clock::{instant, now};
pub use driver::entropy::OsEntropy;
pub use endpoint::{Accept, Connecting, Endpoint, Incoming, WaitIdle};
pub use engine::net::Caps;
pub use error::{
    ConnectError, ConnectionError, Fault, FinishError, ReadError, ReadToEndError, SendDatagramError,
    WriteError,
};
pub use paths::{Failover, NextPathChange, PathAnswer, PathChange};
pub use resume::{EarlyAccepted, TicketUpdate};
pub use sessions::{NextPage, SessionInfo, Sessions};
pub use stream::{Read, ReadToEnd, RecvStream, SendStream, Stopped, Write, WriteAll};
pub use transport_core::{
    Access, AddressOptions, Algorithm, Bundle, BundleDraft, BundleEndpoint, BundleError, By, Class, ClientId,
    ClientIdentity, ClientTicket, CloseReason, ConnectionStats, DEFAULT_PROVIDER, DatagramDrop,
    DatagramOptions, Direction, DropReason, Drops, EndpointAddress, EndpointStats, Entropy, EntropyFailed,
    EpochStats, EpochsError, Grant, KeyLog, KeyLogEntry, Limits, Now, Observer, PathError, PathId, PathInfo,
    PathReason, PathState, Peer, Provider, RelayEpoch, RelayId, RelayIdentity, RelayStatics, Secret, Special,
    StreamId, Suite, SuiteChoice, TicketKeys, TicketOptions, TokenIssuer, TokenKey, TrafficSecrets, Usage,
    code, is_host, is_public, trace,
};
pub use wait::Wait;
