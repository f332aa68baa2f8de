//! The packet engine: wire formats, connections and the endpoint. It reads no clock, starts no thread and opens no
//! socket but in [`net`]; whoever drives it hands in datagrams and time, and takes out datagrams and events.
//!
//! # How data flows
//!
//! In: [`Endpoint::handle_datagram`] unmasks the connection id (`endpoint/route.rs`) and finds the connection, or holds the
//! datagram against the rules for strangers (`endpoint/admit.rs`). `connection/receive.rs` opens the packet,
//! `connection/dispatch.rs` hands each frame to the component it concerns, and those leave [`Event`]s.
//!
//! Out: [`Endpoint::poll`] asks one connection after another. `connection/transmit.rs` asks loss recovery what may be said,
//! the scheduler what there is to say, and seals packets in place into one [`Batch`].
//!
//! Time: [`Output::Wait`] says until when; [`Endpoint::handle_timeout`] goes to the connections whose time has come.
//!
//! The contract: after any call that changes something, [`Endpoint::poll`] until it says [`Output::Wait`].
#![deny(unsafe_code)]

pub mod buffer;
mod config;
mod connection;
mod endpoint;
mod error;
mod handle;
mod key_log;
#[cfg(feature = "net")]
pub mod net;
pub mod packet;
mod path;
mod random;
mod reach;
mod seat;
pub mod timer;
pub mod trace;
pub mod wire;

pub use buffer::{Arrived, Batch, Ecn, Joined, RecvBatch, Route};
pub use config::{
    Access, AddressOptions, Connect, EndpointConfig, EpochsError, Now, RelayEpoch, ServerConfig, SuiteChoice,
    TicketOptions, TransportConfig,
};
pub use connection::{
    Connection, ConnectionStats, Event, FLOOR as PATH_FLOOR, Info, PathError, PathInfo, Peer, Ticket,
};
pub use endpoint::{
    Endpoint, EndpointStats, EpochStats, Output, SessionInfo, SessionPage, Usage, Whose, Worker,
};
pub use error::{By, CloseReason, ConnectError, code};
pub use handle::Handle;
pub use key_log::{KeyLog, KeyLogEntry};
pub use path::{PathId, PathReason, PathState};
pub use reach::{Special, is_host, is_public, special, translated};
pub use timer::Why;
pub use trace::{DropReason, Drops, Observer};

pub use transport_crypto::provider::{DEFAULT as DEFAULT_PROVIDER, Provider};
pub use transport_crypto::{
    Bundle, BundleDraft, BundleEndpoint, BundleError, ClientId, ClientIdentity, ClientTicket,
    EndpointAddress, Entropy, EntropyFailed, Grant, RelayId, RelayIdentity, RelayStatics, Secret,
    SeededEntropy, Suite, TicketKeys, TokenIssuer, TokenKey, TrafficSecrets, sha256,
};
pub use transport_reliability::{Algorithm, EcnState};
pub use transport_scheduler::{
    Blocks, Class, DatagramDrop, DatagramError, DatagramId, DatagramOptions, Direction, Event as StreamEvent,
    Limits, QueueState, Read, ReadError, Side, Spares, StreamId, StreamsExhausted, WriteError,
};
