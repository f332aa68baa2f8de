//! Words of the engine, by their seam names, until `transport_core` brings them.
#![allow(missing_docs, dead_code, unused_variables, clippy::all, clippy::pedantic, reason = "replaced by re-exports of transport_core")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Now { pub instant: Instant, pub unix_ms: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);
impl StreamId { pub fn get(self) -> u64 { self.0 } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction { Bi, Uni }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class { Control, Realtime, #[default] Interactive, Bulk, Background }
#[derive(Clone, Copy, Debug, Default)]
pub struct DatagramOptions { pub class: Class, pub deadline: Option<Instant> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite { ChaCha20Poly1305 = 1, Aes256Gcm = 2 }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuiteChoice { #[default] Auto, ChaCha20Poly1305, Aes256Gcm }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub [u8; 32]);
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub [u8; 32]);
#[derive(Clone, Copy, Default)]
pub struct Grant(pub [u8; 32]);
pub struct RelayStatics(());
pub struct ClientIdentity(());
#[derive(Clone)]
pub struct Bundle(Vec<BundleEndpoint>);
impl Bundle { pub fn endpoints(&self) -> &[BundleEndpoint] { &self.0 } }
#[derive(Clone, Debug)]
pub enum EndpointAddress { Ip(IpAddr), Name(String) }
#[derive(Clone, Debug)]
pub struct BundleEndpoint { pub address: EndpointAddress, pub port: u16, pub cover: u8 }
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError { Malformed(&'static str) }
impl std::fmt::Display for BundleError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By { Local, Peer }
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason { Application { code: u64, reason: Vec<u8>, by: By }, Idle, HandshakeTimeout, Refused { code: u64 }, Transport { code: u64, by: By } }
impl std::fmt::Display for CloseReason { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") } }
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer { Relay(RelayId), Client(ClientId), Anonymous }
pub enum Access { Open, AllowList(BTreeSet<ClientId>) }
#[derive(Clone, Copy, Debug, Default)]
pub enum Algorithm { #[default] Cubic, Fixed { bytes_per_s: u64 } }
#[derive(Clone, Debug, Default)]
pub struct Limits { pub datagram_queue_bytes: usize }
#[derive(Clone, Debug, Default)]
pub struct ConnectionStats {}
#[derive(Clone, Debug, Default)]
pub struct EndpointStats {}
pub struct Connect { pub bundle: Bundle, pub identity: Option<ClientIdentity>, pub grant: Grant, pub remote: SocketAddr, pub app: Vec<u8>, pub suite: SuiteChoice }
pub trait Observer { fn on_event(&mut self, now: Now, event: &trace::Event<'_>); }
pub mod net {
    use std::{io, net::SocketAddr, os::fd::{AsRawFd, RawFd}, time::Duration};
    pub struct UdpSocket;
    #[derive(Default)]
    pub struct SocketOptions { pub receive_buffer: usize, pub send_buffer: usize }
    impl UdpSocket {
        pub fn bind(a: SocketAddr, o: SocketOptions) -> io::Result<Self> { unreachable!() }
        pub fn local_addr(&self) -> io::Result<SocketAddr> { unreachable!() }
        pub fn recv_batch(&mut self, b: &mut super::RecvBatch) -> io::Result<usize> { unreachable!() }
        pub fn send_batch(&mut self, r: super::Route, b: &super::Batch) -> io::Result<()> { unreachable!() }
    }
    impl AsRawFd for UdpSocket { fn as_raw_fd(&self) -> RawFd { unreachable!() } }
    pub struct Timer;
    impl Timer { pub fn new() -> io::Result<Self> { unreachable!() } pub fn arm(&self, d: Duration) -> io::Result<()> { unreachable!() } }
    impl AsRawFd for Timer { fn as_raw_fd(&self) -> RawFd { unreachable!() } }
}

#[derive(Clone, Copy, Debug)]
pub struct Route { pub remote: SocketAddr, pub local: Option<IpAddr> }
#[derive(Default)]
pub struct Batch;
impl Batch { pub fn clear(&mut self) {} }
pub struct RecvBatch;
impl RecvBatch { pub fn new(slots: usize) -> Self { Self } pub fn datagrams(&mut self) -> impl Iterator<Item = (Route, &mut [u8])> { std::iter::empty() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);
#[derive(Clone, Debug)]
pub struct Info { pub peer: Peer, pub suite: Suite, pub handshake: Duration }
#[non_exhaustive]
pub enum Event {
    Connected(Info), Closed(CloseReason), StreamOpened { id: StreamId }, Readable { id: StreamId }, Writable { id: StreamId },
    StreamFinished { id: StreamId }, StreamStopped { id: StreamId, code: u64 }, StreamReset { id: StreamId, code: u64 },
    StreamsAvailable { direction: Direction }, DatagramsWritable, DatagramReceived(Vec<u8>), PathChanged { remote: SocketAddr }, MtuChanged { max_datagram: usize },
}
pub enum Why { Idle }
pub enum Output { Transmit(Route), Event(Handle, Event), Wait(Option<(Instant, Why)>) }
pub enum StartError { Bundle(BundleError), Other }
pub struct EntropyFailed;
pub trait Entropy { fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed>; }
pub enum StreamWriteError { Blocked, Stopped(u64), Unknown, Finished }
pub enum StreamReadError { Blocked, Reset(u64), Unknown, Stopped }
pub struct StreamRead { pub bytes: usize, pub fin: bool }
pub struct QueueState { pub bytes: usize, pub len: usize }
pub struct EngineConfig;
pub struct Endpoint;
impl Endpoint {
    pub fn new(config: EngineConfig, seed: [u8; 32], entropy: Box<dyn Entropy + Send>) -> Self { Self }
    pub fn connect(&mut self, now: Now, target: Connect) -> Result<Handle, StartError> { unreachable!() }
    pub fn handle_datagram(&mut self, now: Now, route: Route, datagram: &mut [u8]) { unreachable!() }
    pub fn handle_timeout(&mut self, now: Now) { unreachable!() }
    pub fn poll(&mut self, now: Now, batch: &mut Batch) -> Output { unreachable!() }
    pub fn connection(&mut self, handle: Handle) -> Option<&mut Connection> { unreachable!() }
    pub fn close_all(&mut self, now: Now, code: u64, reason: &[u8]) { unreachable!() }
    pub fn refuse_new(&mut self, on: bool) { unreachable!() }
    pub fn stats(&self) -> EndpointStats { unreachable!() }
}
pub struct Connection;
impl Connection {
    pub fn open(&mut self, d: Direction) -> Result<StreamId, ()> { unreachable!() }
    pub fn accept(&mut self, d: Direction) -> Option<StreamId> { unreachable!() }
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, StreamWriteError> { unreachable!() }
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamWriteError> { unreachable!() }
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), StreamWriteError> { unreachable!() }
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<StreamRead, StreamReadError> { unreachable!() }
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), StreamReadError> { unreachable!() }
    pub fn set_class(&mut self, id: StreamId, class: Class) { unreachable!() }
    pub fn send_datagram(&mut self, now: Instant, data: Vec<u8>, options: DatagramOptions) -> Result<(), ()> { unreachable!() }
    pub fn datagram_queue(&self) -> QueueState { unreachable!() }
    pub fn max_datagram(&self) -> usize { unreachable!() }
    pub fn close(&mut self, now: Now, code: u64, reason: &[u8]) { unreachable!() }
    pub fn update_keys(&mut self) -> bool { unreachable!() }
    pub fn stats(&self) -> ConnectionStats { unreachable!() }
    pub fn export(&self, label: &[u8], out: &mut [u8]) { unreachable!() }
    pub fn remote(&self) -> SocketAddr { unreachable!() }
}
pub mod trace { #[derive(Debug)] pub struct Event<'a>(pub &'a ()); }
