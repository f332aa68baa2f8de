//! The words of the engine, as this crate uses them.

pub(crate) use transport_core::{
    Access, Algorithm, Batch, Bundle, BundleError, By, Class, ClientIdentity, CloseReason, Connect,
    ConnectError as StartError, Connection, ConnectionStats, DatagramOptions, Direction, Endpoint,
    EndpointAddress, EndpointConfig as EngineConfig, EndpointStats, Entropy, EntropyFailed, Event, Grant,
    Handle, Info, Limits, Now, Observer, Output, Peer, ReadError as StreamReadError, RecvBatch, RelayId,
    RelayStatics, Route, ServerConfig, StreamEvent, StreamId, Suite, SuiteChoice, TransportConfig,
    WriteError as StreamWriteError, net, trace,
};
