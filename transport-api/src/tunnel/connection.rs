//! Our own transport as a lane.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::masque::lane::{Lane, LaneDatagramError, LaneError, LaneRecv, LaneSend};
use crate::{
    Class, Connection, ConnectionError, DatagramOptions, ReadError, RecvStream, SendDatagramError,
    SendStream, WriteError,
};

fn closed(error: &ConnectionError) -> LaneError {
    LaneError::Closed(error.to_string())
}

fn not_taken(error: SendDatagramError) -> LaneDatagramError {
    match error {
        SendDatagramError::TooLarge { max } => LaneDatagramError::TooLarge(max),
        SendDatagramError::Disabled | SendDatagramError::Full | SendDatagramError::Connection(_) => {
            LaneDatagramError::Dropped
        }
    }
}

impl Lane for Connection {
    type Send = SendStream;
    type Recv = RecvStream;

    async fn open_bi(&self) -> Result<(SendStream, RecvStream), LaneError> {
        Connection::open_bi(self).await.map_err(|e| closed(&e))
    }

    async fn open_uni(&self) -> Result<SendStream, LaneError> {
        Connection::open_uni(self).await.map_err(|e| closed(&e))
    }

    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), LaneError> {
        Connection::accept_bi(self).await.map_err(|e| closed(&e))
    }

    async fn accept_uni(&self) -> Result<RecvStream, LaneError> {
        Connection::accept_uni(self).await.map_err(|e| closed(&e))
    }

    async fn read_datagram(&self) -> Result<Vec<u8>, LaneError> {
        Connection::read_datagram(self).await.map_err(|e| closed(&e))
    }

    fn send_datagram(&self, datagram: Vec<u8>) -> Result<(), LaneDatagramError> {
        Connection::send_datagram(self, datagram).map_err(not_taken)
    }

    fn send_flow(&self, flow: u32, datagrams: &mut Vec<Vec<u8>>) -> usize {
        let options = DatagramOptions {
            // What a flow carries is as likely a download as a call: its share of the tunnel is what keeps it fast.
            class: Class::Interactive,
            flow: Some(flow),
            ..DatagramOptions::default()
        };
        self.send_datagrams(datagrams, options)
    }

    fn poll_flow_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_flows_taken(cx)
    }

    fn take_spares(&self, count: usize, spares: &mut Vec<Vec<u8>>) {
        Connection::take_spares(self, count, spares);
    }

    fn give_spares(&self, spent: &mut Vec<Vec<u8>>) {
        Connection::give_spares(self, spent);
    }

    fn max_datagram(&self) -> usize {
        self.max_datagram_size()
    }

    async fn max_datagram_changed(&self, known: usize) -> Result<usize, LaneError> {
        self.max_datagram_size_changed(known)
            .await
            .map_err(|e| closed(&e))
    }

    fn close(&self, code: u64, reason: &str) {
        Connection::close(self, code, reason.as_bytes());
    }

    fn remote(&self) -> Option<SocketAddr> {
        Some(self.remote_address())
    }

    fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        Connection::export(self, label, out)
    }
}

impl LaneSend for SendStream {
    fn ordinal(&self) -> u64 {
        // RFC 9000 §2.1: the two low bits say who opened it, and for which directions.
        self.id().get() >> 2
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, LaneError>> {
        SendStream::poll_write(self, cx, data).map_err(|error| match error {
            WriteError::Stopped(code) => LaneError::Reset(code),
            WriteError::Finished => LaneError::Finished,
            WriteError::Connection(error) => closed(&error),
        })
    }

    fn finish(&mut self) {
        // It fails when the stream or the connection has ended already; then there is nothing to finish.
        let _ = SendStream::finish(self);
    }

    fn reset(&mut self, code: u64) {
        let _ = SendStream::reset(self, code);
    }
}

impl LaneRecv for RecvStream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, LaneError>> {
        RecvStream::poll_read(self, cx, buffer).map_err(|error| match error {
            ReadError::Reset(code) => LaneError::Reset(code),
            ReadError::Stopped => LaneError::Finished,
            ReadError::Connection(error) => closed(&error),
        })
    }

    fn stop(&mut self, code: u64) {
        let _ = RecvStream::stop(self, code);
    }

    fn is_early(&self) -> bool {
        RecvStream::is_early(self)
    }
}
