//! Carrying bytes between a request and a socket.

use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::event::TunnelEnd;
use super::ledger::{Ledger, Way};
use super::service::SessionContext;
use crate::http::frame::{DATA_HEADER, data_header};
use crate::http::{Code, Fault};
use crate::local::{TcpStream, yield_now};
use crate::masque::lane::{Lane, LaneError, LaneSend};
use crate::tunnel::frames::{FrameReader, StreamError, write_all};
use crate::tunnel::inbox::InboxEnd;
use crate::tunnel::session::{RequestStream, Route};

/// The first buffer of a direction; it grows to `MAX_PIECE` when reads fill it.
const MIN_PIECE: usize = 8 * 1024;
const MAX_PIECE: usize = 64 * 1024;
/// Pieces carried before other tunnels have their turn.
const TCP_BATCH: usize = 16;

/// How a tunnel ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    ByTarget,
    ByClient,
    Fault(Fault),
    Idle,
    /// What it was granted is used up.
    Over(TunnelEnd),
}

impl End {
    /// What the accountant is told.
    pub(super) fn reason(&self) -> TunnelEnd {
        match self {
            Self::Finished => TunnelEnd::Finished,
            Self::ByTarget => TunnelEnd::Target,
            Self::ByClient => TunnelEnd::Client,
            Self::Fault(_) => TunnelEnd::Fault,
            Self::Idle => TunnelEnd::Idle,
            Self::Over(why) => *why,
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Lane(_) => Self::ByClient,
            StreamError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<LaneError> for End {
    fn from(_: LaneError) -> Self {
        Self::ByClient
    }
}

/// Carries TCP both ways until both are finished, or one breaks.
pub(super) async fn tcp<L: Lane>(
    context: &SessionContext<L>,
    ledger: &Ledger,
    stream: RequestStream<L>,
    target: TcpStream,
) -> End {
    let RequestStream {
        mut send,
        mut frames,
        route,
    } = stream;
    let end = {
        let mut up = pin!(tcp_up(context, ledger, &mut frames, &target));
        let mut down = pin!(tcp_down(context, ledger, &mut send, &target));
        let mut stray = pin!(no_datagrams(&route));
        let (mut up_done, mut down_done) = (false, false);
        let turn = |cx: &mut Context<'_>| {
            for (future, done) in [
                (up.as_mut() as Pin<&mut dyn Future<Output = _>>, &mut up_done),
                (down.as_mut(), &mut down_done),
            ] {
                if !*done && let Poll::Ready(result) = future.poll(cx) {
                    if let Err(end) = result {
                        return Poll::Ready(end);
                    }
                    *done = true;
                }
            }
            if up_done && down_done {
                return Poll::Ready(End::Finished);
            }
            stray.as_mut().poll(cx)
        };
        ledger.run(context.local(), turn).await
    };
    let code = match &end {
        End::Finished => return end,
        End::ByTarget | End::ByClient | End::Idle | End::Over(_) => Code::CONNECT_ERROR,
        End::Fault(fault) => {
            context.session.fault(*fault);
            fault.code()
        }
    };
    send.reset(code.0);
    frames.stop(code);
    // Whatever the target has still to say, nobody will read it.
    let _ = target.shutdown(Shutdown::Both);
    end
}

/// Client to target.
async fn tcp_up<L: Lane>(
    context: &SessionContext<L>,
    ledger: &Ledger,
    frames: &mut FrameReader<L::Recv>,
    target: &TcpStream,
) -> Result<(), End> {
    let mut buffer = vec![0; MIN_PIECE];
    let mut pieces = 0;
    while let Some(n) = frames.read_data(&mut buffer).await? {
        target
            .write_all(buffer.get(..n).unwrap_or_default())
            .await
            .map_err(|_| End::ByTarget)?;
        ledger.pay(context.local(), Way::Up, n).await;
        if n == buffer.len() && n < MAX_PIECE {
            buffer.resize(n * 2, 0);
        }
        pieces += 1;
        if pieces % TCP_BATCH == 0 {
            yield_now().await;
        }
    }
    // The target may have closed already; then there is nobody to tell.
    let _ = target.shutdown(Shutdown::Write);
    Ok(())
}

/// Target to client: each read becomes one DATA frame, its header written in front of it.
async fn tcp_down<L: Lane>(
    context: &SessionContext<L>,
    ledger: &Ledger,
    send: &mut L::Send,
    target: &TcpStream,
) -> Result<(), End> {
    let mut buffer = vec![0; DATA_HEADER + MIN_PIECE];
    let mut pieces = 0;
    loop {
        let n = target
            .read(buffer.get_mut(DATA_HEADER..).unwrap_or_default())
            .await
            .map_err(|_| End::ByTarget)?;
        if n == 0 {
            send.finish();
            return Ok(());
        }
        let mut header = [0; DATA_HEADER];
        let start = data_header(n, &mut header);
        if let Some(place) = buffer.get_mut(..DATA_HEADER) {
            place.copy_from_slice(&header);
        }
        write_all(send, buffer.get(start..DATA_HEADER + n).unwrap_or_default()).await?;
        ledger.pay(context.local(), Way::Down, n).await;
        if n + DATA_HEADER == buffer.len() && n < MAX_PIECE {
            buffer.resize(DATA_HEADER + n * 2, 0);
        }
        pieces += 1;
        if pieces % TCP_BATCH == 0 {
            yield_now().await;
        }
    }
}

/// Waits for a datagram that must not come (RFC 9297 §2).
async fn no_datagrams<L>(route: &Route<L>) -> End {
    let end = poll_fn(|cx| match route.inbox.poll_recv(cx) {
        Poll::Ready(Err(end)) => Poll::Ready(end),
        Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
    })
    .await;
    match end {
        InboxEnd::NotForDatagrams => End::Fault(Fault::Stream(Code::DATAGRAM_ERROR)),
        InboxEnd::Closed => End::ByClient,
    }
}
