//! The words of the engine, as this crate uses them.

pub use transport_core::{
    Access, Algorithm, Batch, Bundle, BundleDraft, BundleEndpoint, BundleError, By, Class, ClientId, ClientIdentity,
    CloseReason, Connect, ConnectError as StartError, Connection, ConnectionStats, DatagramOptions, Direction, Drops,
    DropReason, Endpoint, EndpointAddress, EndpointConfig as EngineConfig, EndpointStats, Entropy, EntropyFailed, Event, Grant,
    Handle, Info, Limits, Now, Observer, Output, Peer, ReadError as StreamReadError, RecvBatch, RelayId, RelayIdentity,
    RelayStatics, Route, ServerConfig, StreamEvent, StreamId, Suite, SuiteChoice, TransportConfig, WriteError as StreamWriteError, net, trace,
};
