//! The client of a relay.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::bind::{BindOptions, BoundUdp};
use super::error::{TunnelError, TunnelErrorKind};
use super::frames::{StreamError, write_all};
use super::ip::{IpRequest, IpTunnel};
use super::session::{RequestStream, Role, Session, SessionDrops, SessionEnd, Successor};
use super::tcp::TcpTunnel;
use super::udp::UdpTunnel;
use crate::http::{Code, Fault, Field, RequestHead, ResponseHead, frame};
use crate::local::{Handle, LoopFull};
use crate::masque::lane::{Lane, LaneError, LaneSend};
use crate::masque::{Target, Template, bind, ip, is_true, udp};
use crate::{Connection, Wait};

/// Interim responses read before the final one.
const MAX_INTERIM: usize = 8;

/// Opens tunnels through one connection to a relay. Clones are the same client.
#[derive(Debug)]
pub struct Client<L: Lane = Connection> {
    session: Session<L>,
    template: Template,
    ip_template: Template,
    /// Go along with every request.
    fields: Arc<[Field]>,
}

impl<L: Lane> Clone for Client<L> {
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            template: self.template.clone(),
            ip_template: self.ip_template.clone(),
            fields: Arc::clone(&self.fields),
        }
    }
}

impl Client<Connection> {
    /// A client with the default template whose background work is a task of `local`, until the connection ends.
    pub fn start(local: &Handle, connection: Connection) -> Result<Self, LoopFull> {
        let (client, work) = Self::new(connection, Template::relay());
        local.spawn(async move { drop(work.await) })?;
        Ok(client)
    }

    /// A client with the default template whose background work has a thread of its own, until the connection ends.
    pub fn start_thread(connection: Connection) -> io::Result<Self> {
        let (client, work) = Self::new(connection, Template::relay());
        std::thread::Builder::new()
            .name("adit-http".into())
            .spawn(move || drop(work.wait()))?;
        Ok(client)
    }

    /// The connection to the relay.
    pub fn connection(&self) -> &Connection {
        self.lane()
    }
}

impl<L: Lane> Client<L> {
    /// A client and its background work, which must be polled until it ends. `template` is used for UDP tunnels, its
    /// authority names the relay; IP tunnels use the default path.
    pub fn new(lane: L, template: Template) -> (Self, impl Future<Output = SessionEnd>) {
        let session = Session::new(lane, Role::Client);
        let client = Self {
            session: session.clone(),
            template,
            ip_template: Template::relay_ip(),
            fields: Arc::default(),
        };
        (client, async move { session.run().await })
    }

    /// The connection below.
    pub fn lane(&self) -> &L {
        self.session.lane()
    }

    /// Whether the relay has said that it takes no further requests.
    pub fn is_draining(&self) -> bool {
        self.session.is_going_away()
    }

    /// The relay that goes on where this one ends, if this one has named it. It is this relay's word: connecting there trusts the
    /// successor as far as this relay, and no further than its bundle proves who it is. Nothing is done about it here.
    pub fn moved(&self) -> Option<Successor> {
        self.session.successor()
    }

    /// Waits until the relay names a successor.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// The connection ended without one.
    pub async fn until_moved(&self) -> Result<Successor, TunnelError> {
        Ok(self.session.until_moved().await?)
    }

    /// Datagrams that reached no tunnel.
    pub fn drops(&self) -> SessionDrops {
        self.session.drops()
    }

    /// Opens a TCP connection from the relay to `host`, which is a name or an address without brackets.
    ///
    /// Cancel-safe: dropping the future cancels the request.
    pub async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpTunnel<L>, TunnelError> {
        let target = target(host, port)?;
        let head = RequestHead::connect(target.to_string());
        let (request, _) = self.request(&head, &[], false).await?;
        Ok(TcpTunnel::new(request))
    }

    /// Opens a UDP association from the relay to `host`.
    ///
    /// Cancel-safe: dropping the future cancels the request.
    pub async fn connect_udp(&self, host: &str, port: u16) -> Result<UdpTunnel<L>, TunnelError> {
        let target = target(host, port)?;
        self.needs_datagrams("CONNECT-UDP").await?;
        let path = self.template.expand(&target);
        let head = RequestHead::extended(udp::PROTOCOL, self.template.authority(), &path);
        let (request, _) = self.request(&head, &[], true).await?;
        Ok(UdpTunnel::new(request))
    }

    /// Binds a UDP port of the relay, for packets to and from anybody.
    ///
    /// Cancel-safe: dropping the future cancels the request.
    ///
    /// # Errors
    /// As for [`Client::connect_udp`]; [`TunnelErrorKind::BadTarget`] or `Rejected` when the relay knows no bind.
    pub async fn bind_udp(&self, options: &BindOptions) -> Result<BoundUdp<L>, TunnelError> {
        self.bind(None, options).await
    }

    /// As [`Client::bind_udp`], and where the relay knows no bind the tunnel goes to `target` alone, as
    /// [`BoundUdp::is_bound`] tells.
    ///
    /// Cancel-safe: dropping the future cancels the request.
    ///
    /// # Errors
    /// As for [`Client::connect_udp`].
    pub async fn bind_udp_to(
        &self,
        target: SocketAddr,
        options: &BindOptions,
    ) -> Result<BoundUdp<L>, TunnelError> {
        let target = SocketAddr::new(target.ip().to_canonical(), target.port());
        self.bind(Some(target), options).await
    }

    async fn bind(
        &self,
        target: Option<SocketAddr>,
        options: &BindOptions,
    ) -> Result<BoundUdp<L>, TunnelError> {
        let path = match target {
            Some(address) => {
                let host = address.ip().to_string();
                self.template.expand(&self::target(&host, address.port())?)
            }
            None => self.template.expand_bind_any(),
        };
        self.needs_datagrams("CONNECT-UDP").await?;
        let mut head = RequestHead::extended(udp::PROTOCOL, self.template.authority(), &path);
        head.fields.push(Field::new(bind::FIELD, "?1"));
        let (contexts, capsules) = options.begin(target.is_none());
        let (request, response) = self.request(&head, &capsules, true).await?;
        BoundUdp::new(request, &response.fields, target, contexts, options)
    }

    /// Opens an IP tunnel: the relay gives addresses and says what it routes to. Another template than the default one is
    /// chosen with [`Client::with_ip_template`].
    ///
    /// Cancel-safe: dropping the future cancels the request.
    pub async fn connect_ip(&self, wanted: &IpRequest) -> Result<IpTunnel<L>, TunnelError> {
        self.needs_datagrams("CONNECT-IP").await?;
        let path = self.ip_template.expand_ip(&wanted.scope);
        let mut head = RequestHead::extended(ip::PROTOCOL, self.template.authority(), &path);
        head.fields.push(Field::new(ip::PIECES_FIELD, "?1"));
        let (request, response) = self.request(&head, &wanted.capsule(), true).await?;
        Ok(IpTunnel::new(
            request,
            is_true(&response.fields, ip::PIECES_FIELD),
        ))
    }

    /// What the relay answers to any head, for tests of it.
    #[cfg(test)]
    pub(crate) async fn status_of(&self, head: &RequestHead) -> Option<u16> {
        match self.request(head, &[], true).await {
            Ok((_, response)) => Some(response.status),
            Err(error) => error.refusal().map(|refusal| refusal.status),
        }
    }

    /// The same client with another template for IP tunnels.
    pub fn with_ip_template(mut self, template: Template) -> Self {
        self.ip_template = template;
        self
    }

    /// The same client with fields that go along with every request, such as `authorization`.
    pub fn with_fields(mut self, fields: Vec<Field>) -> Self {
        self.fields = fields.into();
        self
    }

    /// RFC 9220 §3, RFC 9297 §2.1.1: not before the relay has said that it understands.
    async fn needs_datagrams(&self, what: &str) -> Result<(), TunnelError> {
        let settings = self.session.peer_settings().await?;
        if settings.extended_connect && settings.datagrams {
            return Ok(());
        }
        let text = format!("the relay does not offer {what}");
        Err(TunnelError::new(TunnelErrorKind::Rejected, text))
    }

    /// Sends a head, and `data` behind it; what the relay answers.
    async fn request(
        &self,
        head: &RequestHead,
        data: &[u8],
        datagrams: bool,
    ) -> Result<(RequestStream<L>, ResponseHead), TunnelError> {
        if let Some(end) = self.session.end() {
            return Err(end.into());
        }
        if self.is_draining() {
            return Err(TunnelError::new(
                TunnelErrorKind::Draining,
                "the relay takes no further requests",
            ));
        }
        let stream = self
            .session
            .open_request(datagrams)
            .await
            .map_err(StreamError::Lane)?;
        let mut pending = Pending(Some(stream));
        match exchange(&mut pending, &self.fields, head, data).await {
            Ok(response) if response.is_success() => match pending.0.take() {
                Some(stream) => Ok((stream, response)),
                None => Err(TunnelError::new(TunnelErrorKind::Transport, "cancelled")),
            },
            Ok(response) => Err(TunnelError::refused(&response)),
            Err(StreamError::Lane(LaneError::Reset(code))) if code == Code::REQUEST_REJECTED.0 => Err(
                TunnelError::new(TunnelErrorKind::Draining, "the relay turned the request away"),
            ),
            Err(error) => {
                if let StreamError::Fault(fault) = error {
                    self.session.fault(fault);
                }
                Err(error.into())
            }
        }
    }
}

/// A request without an answer yet: dropping it cancels the request.
struct Pending<L: Lane>(Option<RequestStream<L>>);

impl<L: Lane> Drop for Pending<L> {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            stream.send.reset(Code::REQUEST_CANCELLED.0);
            stream.frames.stop(Code::REQUEST_CANCELLED);
        }
    }
}

/// Sends the head, and `data` in a frame behind it, and reads the final response.
async fn exchange<L: Lane>(
    pending: &mut Pending<L>,
    fields: &[Field],
    head: &RequestHead,
    data: &[u8],
) -> Result<ResponseHead, StreamError> {
    let Some(stream) = &mut pending.0 else {
        return Err(LaneError::Finished.into());
    };
    let mut out = Vec::with_capacity(256);
    head.put_with(fields, &mut out);
    if !data.is_empty() {
        frame::put(&mut out, frame::kind::DATA, data);
    }
    write_all(&mut stream.send, &out).await?;
    for _ in 0..MAX_INTERIM {
        // An end without an answer is a malformed response (RFC 9114 §4.1).
        let payload = stream
            .frames
            .read_head()
            .await?
            .ok_or(Fault::Stream(Code::MESSAGE_ERROR))?;
        let response = ResponseHead::parse(&payload)?;
        if !response.is_interim() {
            stream.frames.head_done();
            return Ok(response);
        }
    }
    Err(Fault::Stream(Code::EXCESSIVE_LOAD).into())
}

fn target(host: &str, port: u16) -> Result<Target, TunnelError> {
    Target::new(host, port)
        .map_err(|e| TunnelError::new(TunnelErrorKind::BadTarget, format!("{host:?} {port}: {e}")))
}
