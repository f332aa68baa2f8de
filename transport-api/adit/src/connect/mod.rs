//! `adit connect`: one relay, offered to local programs through SOCKS5 and forwards.

mod forward;
mod hop;
mod keeper;
mod link;
mod paths;
mod place;
mod pump;
mod socks;
mod tun;

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use transport_api::{Bundle, ClientIdentity, local::Loop, resolve_endpoint, tunnel::Chain};

pub(crate) use hop::Party;
pub(crate) use link::{Link, Shown, Target, is_silence};
pub(crate) use socks::listen as serve_socks;
use tun::Wishes;

use crate::{
    cli,
    exit::{Code, Context, Outcome, fail},
    files, privilege, secrets,
    signals::{Signal, Signals},
    state::State,
};

/// Tasks of the client at most; a tunnel takes up to three.
const MAX_TASKS: usize = 16_384;

pub(crate) fn run(options: &cli::Connect, json: bool) -> Outcome {
    let tun = Wishes::of(options)?;
    let others =
        options.socks.is_some() || !options.forward_udp.is_empty() || !options.forward_tcp.is_empty();
    if tun.is_none() && !others {
        return fail(
            Code::Usage,
            "nothing to offer: give --tun NAME, --socks ADDR, --forward-udp or --forward-tcp",
        );
    }
    if tun.is_some() {
        privilege::keep_network_alone()?;
    }
    secrets::protect();
    let relays = relays(options)?;
    // Looking up a name blocks, and nothing is there to be undone: until here signals end the process as they always do.
    let server = first_server(&relays)?;
    let signals = Signals::listen()?;
    let key_log = match (&options.key_log, relays.last()) {
        (Some(path), Some(last)) => Some(crate::key_log::open(path, &last.bundle.relay_id())?),
        _ => None,
    };
    let target = Target {
        relays,
        server,
        congestion: options.congestion()?,
        busy_poll: options.busy_poll.time(),
        standby: options.standby,
        key_log,
        tun,
        token: options.token.as_deref().map(crate::token::read).transpose()?,
        follow: !options.stay,
    };
    let mut main = Loop::new(MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    let at = main.handle();
    let work = async {
        let link = Link::start(
            &at,
            target,
            Shown {
                json,
                quiet: false,
                socks: options.socks,
            },
        )?;
        offer(options, &link)?;
        let mut asked = pin!(asked_to_end(&signals));
        let early = connected_or(asked.as_mut(), &link).await?;
        let signal = match early {
            Some(signal) => signal,
            None => asked.await,
        };
        link.close().await;
        match signal {
            Signal::Stop => fail(Code::Interrupted, "interrupted"),
            _ if early.is_some() => fail(Code::Terminated, "terminated before the relay was reached"),
            _ => Ok(()),
        }
    };
    main.run(work).or_fail(Code::Failed, "event loop")?
}

async fn asked_to_end(signals: &Signals) -> Signal {
    loop {
        match signals.next().await {
            Signal::Reload => {}
            signal => return signal,
        }
    }
}

/// Nothing once the link is connected; the signal if that comes sooner.
async fn connected_or(
    mut asked: Pin<&mut impl Future<Output = Signal>>,
    link: &Rc<Link>,
) -> Outcome<Option<Signal>> {
    let mut connected = pin!(link.connect_first());
    poll_fn(|cx| match asked.as_mut().poll(cx) {
        Poll::Ready(signal) => Poll::Ready(Ok(Some(signal))),
        Poll::Pending => connected.as_mut().poll(cx).map_ok(|()| None),
    })
    .await
}

/// The relays on the way, the outermost first.
fn relays(options: &cli::Connect) -> Outcome<Vec<Party>> {
    if options.via.is_empty() && options.via_identity.is_some() {
        return fail(Code::Usage, "--via-identity goes with --via BUNDLE");
    }
    let outer = options.via.iter().map(|bundle| (bundle, &options.via_identity));
    let all = outer.chain([(&options.bundle, &options.identity)]);
    let relays: Vec<Party> = all
        .map(|(bundle, identity)| party(bundle, identity.as_deref()))
        .collect::<Outcome<_>>()?;
    let ids: Vec<_> = relays.iter().map(|party| party.bundle.relay_id()).collect();
    Chain::check(&ids).or_fail(Code::Usage, "--via")?;
    Ok(relays)
}

fn party(bundle: &Path, identity: Option<&Path>) -> Outcome<Party> {
    let given = files::read_bundle(bundle)?;
    let state = State::of(&given.relay_id());
    let newest = state.choose(given)?;
    crate::bundle::check(&newest, None).or_fail(Code::Auth, bundle.display())?;
    let key = |path: &Path| files::read_key(path, files::CLIENT_LABEL);
    Ok(Party {
        bundle: newest,
        identity: identity
            .map(key)
            .transpose()?
            .map(|seeds| ClientIdentity::from_seeds(*seeds)),
        state: Some(state),
    })
}

/// Opens every listener before the relay is called, so that a port in use is told at once.
fn offer(options: &cli::Connect, link: &Rc<Link>) -> Outcome {
    if let Some(address) = options.socks {
        socks::serve(link, address)?;
    }
    for forward in &options.forward_udp {
        forward::udp(link, forward)?;
    }
    for forward in &options.forward_tcp {
        forward::tcp(link, forward)?;
    }
    Ok(())
}

/// Where the first datagram goes.
fn first_server(relays: &[Party]) -> Outcome<SocketAddr> {
    match relays.first() {
        Some(first) => Ok(addresses(&first.bundle)?[0]),
        None => fail(Code::Usage, "no relay is given"),
    }
}

/// Where a bundle's relay may be reached, in the bundle's order.
pub(crate) fn addresses(bundle: &Bundle) -> Outcome<Vec<SocketAddr>> {
    resolve_endpoint(bundle).or_fail(Code::Unreachable, "relay address")
}

/// The unspecified address of the family of `remote`.
pub(crate) fn any_address(remote: SocketAddr) -> SocketAddr {
    let ip = if remote.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    SocketAddr::new(ip, 0)
}
