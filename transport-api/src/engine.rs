//! The words of the engine, as this crate uses them.

pub(crate) use transport_core::{
    Access, AddressOptions, Algorithm, Arrived, Batch, Blocks, Bundle, BundleError, By, Class, ClientId,
    ClientIdentity, ClientTicket, CloseReason, Connect, ConnectError as StartError, Connection,
    ConnectionStats, DEFAULT_PROVIDER, DatagramDrop, DatagramId, DatagramOptions, Direction, Endpoint,
    EndpointAddress, EndpointConfig as EngineConfig, EndpointStats, Entropy, EntropyFailed, EpochsError,
    Event, Grant, Handle, Info, Joined, KeyLog, KeyLogEntry, Limits, Now, Observer, Output, PATH_FLOOR,
    PathError, PathId, PathInfo, PathReason, PathState, Peer, Provider, ReadError as StreamReadError,
    RecvBatch, RelayEpoch, RelayId, RelayStatics, Route, Secret, ServerConfig, SessionInfo as EngineSession,
    Spares, Special, StreamEvent, StreamId, Suite, SuiteChoice, Ticket, TicketKeys, TicketOptions,
    TransportConfig, Usage, Worker, WriteError as StreamWriteError, code, net, sha256, special, trace,
    translated,
};
