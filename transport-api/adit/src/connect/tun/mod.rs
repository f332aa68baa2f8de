//! `connect --tun`: the relay's IP tunnel as a device of this machine.
//!
//! `system` tells the kernel what the relay gives, and takes it back; `journal` remembers what a process that is killed leaves
//! behind; `dns` is about resolv.conf.

mod dns;
mod journal;
mod plan;
mod system;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use transport_api::{
    Connection, Entropy, OsEntropy,
    ip::Network,
    local::{Handle, TunDevice},
    tun::{Tun, TunOptions},
    tunnel::{BridgeFigures, BridgeMeter, Client, IpBridge, IpChange, IpRequest, TunnelError},
};

use crate::{
    cli,
    exit::{Code, Context, Failure, Outcome, fail},
    output,
    relay::vpn::{explain, explain_netlink},
};
pub(super) use system::MARK;
use system::{Given, System};

/// What the user wants of a tunnel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) name: String,
    /// Of what the relay routes, only this; everything when empty.
    pub(crate) routes: Vec<Network>,
    /// Nothing leaves beside the tunnel.
    pub(crate) kill_switch: bool,
    /// Resolvers while the tunnel is there.
    pub(crate) dns: Vec<IpAddr>,
}

impl Wishes {
    /// `None` without `--tun`.
    pub(crate) fn of(options: &cli::Connect) -> Outcome<Option<Self>> {
        let Some(name) = &options.tun else {
            if options.kill_switch || !options.route.is_empty() || !options.dns.is_empty() {
                return fail(Code::Usage, "--route, --kill-switch and --dns go with --tun NAME");
            }
            return Ok(None);
        };
        Ok(Some(Self {
            name: name.clone(),
            routes: options.route.clone(),
            kill_switch: options.kill_switch,
            dns: options.dns.clone(),
        }))
    }
}

/// The device, as long as the command runs; tunnels come and go under it.
pub(crate) struct Vpn {
    device: TunDevice,
    system: RefCell<System>,
    /// What the last tunnel gave.
    given: RefCell<Given>,
    mtu: Cell<usize>,
    /// Of the last tunnel.
    meter: RefCell<BridgeMeter>,
}

impl Vpn {
    /// Makes the device, after what an earlier process left behind is gone.
    pub(crate) fn open(at: &Handle, wishes: &Wishes, relay: SocketAddr) -> Outcome<Rc<Self>> {
        let journal = journal::open(&wishes.name)?;
        let options = TunOptions {
            name: Some(wishes.name.clone()),
            queues: 1,
            offload: true,
        };
        let tun = Tun::open(&options)
            .map_err(|error| explain(&error, "--tun"))?
            .pop()
            .ok_or_else(|| Failure {
                code: Code::Failed,
                message: "--tun: the kernel gave no queue".into(),
            })?;
        let system = System::new(tun.name(), wishes.clone(), relay.ip(), journal)?;
        let device = TunDevice::new(at, tun).or_fail(Code::Failed, "--tun")?;
        Ok(Rc::new(Self {
            device,
            system: RefCell::new(system),
            given: RefCell::default(),
            mtu: Cell::new(0),
            meter: RefCell::default(),
        }))
    }

    /// The device's name.
    pub(crate) fn name(&self) -> String {
        self.device.get().name().to_owned()
    }

    /// Whether a route of the tunnel, the default one aside, leads to this address.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        let routes = &self.given.borrow().routes;
        routes
            .iter()
            .any(|route| route.prefix_len() > 0 && route.contains(address))
    }

    /// What is told of it.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let given = self.given.borrow();
        let names = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        serde_json::json!({
            "addresses": names(&given.addresses),
            "routes": names(&given.routes),
            "mtu": self.mtu.get(),
        })
    }

    /// What went through the last tunnel, and what did not.
    pub(crate) fn carried(&self) -> serde_json::Value {
        let BridgeFigures {
            packets_up,
            bytes_up,
            packets_down,
            bytes_down,
            dropped_malformed,
            dropped_policy,
            dropped_too_large,
            dropped_queue_full,
            ..
        } = self.meter.borrow().figures();
        serde_json::json!({
            "packets_up": packets_up,
            "bytes_up": bytes_up,
            "packets_down": packets_down,
            "bytes_down": bytes_down,
            "dropped_malformed": dropped_malformed,
            "dropped_policy": dropped_policy,
            "dropped_too_large": dropped_too_large,
            "dropped_queue_full": dropped_queue_full,
        })
    }

    /// Opens a tunnel and waits until the relay has said what it gives; then the kernel knows it as well.
    pub(crate) async fn join(&self, client: &Client) -> Outcome<IpBridge> {
        let tunnel = client
            .connect_ip(&IpRequest::default())
            .await
            .map_err(|error| refused(&error))?;
        let mut seed = [0; 8];
        OsEntropy.fill(&mut seed).or_fail(Code::Failed, "--tun")?;
        let mut bridge = IpBridge::new(tunnel, &self.device, u64::from_ne_bytes(seed));
        *self.meter.borrow_mut() = bridge.meter();
        let (mut addresses, mut routes) = (None, None);
        while addresses.is_none() || routes.is_none() {
            match bridge.next().await.map_err(|error| refused(&error))? {
                IpChange::Addresses(now) => addresses = Some(now),
                IpChange::Routes(now) => routes = Some(now),
                _ => {}
            }
        }
        let addresses = addresses.unwrap_or_default();
        if addresses.is_empty() {
            return fail(
                Code::Failed,
                "--tun: the relay has no address left to give; ask its operator for a larger pool",
            );
        }
        let routes = routes.map(|routes| plan::networks(&routes)).unwrap_or_default();
        self.give(Given { addresses, routes }, bridge.max_packet())?;
        Ok(bridge)
    }

    /// Carries packets and follows changes until the tunnel or its connection ends.
    pub(crate) async fn run(self: Rc<Self>, mut bridge: IpBridge, connection: Connection) {
        loop {
            let known = connection.max_datagram_size();
            let mut size = pin!(connection.max_datagram_size_changed(known));
            let change = {
                let mut next = pin!(bridge.next());
                poll_fn(|cx| {
                    if size.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(None));
                    }
                    next.as_mut().poll(cx).map_ok(Some)
                })
                .await
            };
            let mut given = self.given.borrow().clone();
            match change {
                Ok(None) => {}
                Ok(Some(IpChange::Addresses(addresses))) => given.addresses = addresses,
                Ok(Some(IpChange::Routes(routes))) => given.routes = plan::networks(&routes),
                Ok(Some(_)) => continue,
                Err(error) => {
                    tracing::info!(%error, "the IP tunnel ended");
                    // The next connection brings the next tunnel.
                    connection.close(0x100, b"the IP tunnel ended");
                    return;
                }
            }
            if connection.close_reason().is_some() {
                return;
            }
            if let Err(failure) = self.give(given, bridge.max_packet()) {
                output::complain(&failure.message);
            }
        }
    }

    fn give(&self, given: Given, max_packet: usize) -> Outcome {
        let mtu = plan::mtu(&given.addresses, max_packet);
        self.system
            .borrow_mut()
            .apply(&given, mtu)
            .map_err(|error| explain_netlink(&error, "--tun"))?;
        self.mtu.set(mtu);
        *self.given.borrow_mut() = given;
        Ok(())
    }
}

fn refused(error: &TunnelError) -> Failure {
    Failure {
        code: Code::Failed,
        message: format!("--tun: {error}; does the relay have [tun] enabled = true?"),
    }
}
