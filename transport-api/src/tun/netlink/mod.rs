//! What a VPN asks of the kernel: devices, addresses, routes, rules. An rtnetlink client of our own; calls wait for the
//! kernel's answer, which comes at once.
//!
//! `wire` knows the bytes, the files beside it what they mean; only `sys` speaks to the kernel.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;

use super::MAX_NAME;
use super::sys::NetlinkSocket;

mod error;
mod link;
mod route;
mod rule;
mod wire;

pub use error::NetlinkError;
pub use link::{Address, Link};
pub use route::{Route, RouteKind};
pub use rule::Rule;

use error::Verdict;
use wire::{Malformed, Message, Messages, Request};

/// An address and the length of a prefix.
pub type Prefix = (IpAddr, u8);

/// The table routes are in unless told otherwise.
pub const MAIN_TABLE: u32 = 254;

/// More than the kernel puts into one datagram.
const DATAGRAM: usize = 64 << 10;
/// The longest list that is read, in entries.
const MAX_LISTED: usize = 1 << 17;
/// How often a list is asked for that changes while it is told.
const ATTEMPTS: usize = 8;

const NOTHING: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
/// A flag of messages of a list that changed while it was told.
const INTERRUPTED: u16 = 0x10;

/// A connection with the kernel's routing, of the network namespace the thread that opened it was in.
///
/// Changes need the capability `CAP_NET_ADMIN`; reading needs none.
#[derive(Debug)]
pub struct Netlink {
    socket: NetlinkSocket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Netlink {
    /// Opens a socket.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Unsupported`] where it is not Linux.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open()?,
            sequence: 0,
            datagram: vec![0; DATAGRAM],
        })
    }

    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// As [`NetlinkError`] says.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Ok(None);
        }
        let mut link = None;
        let mut read = |message: &Message<'_>| {
            if message.kind == link::NEW_LINK {
                link = Some(Link::read(message)?);
            }
            Ok(())
        };
        let doing = format_args!("looking for the device {name}");
        match self.exchange(Link::get(name), &doing, &mut read) {
            Ok(_) => Ok(link),
            Err(NetlinkError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Switches a device on or off, and sets the longest packet it takes, in bytes; `None` leaves either as it is.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] when there is no such device; others as they say.
    pub fn set_link(&mut self, index: u32, up: Option<bool>, mtu: Option<u32>) -> Result<(), NetlinkError> {
        self.command(
            Link::set(index, up, mtu),
            &format_args!("changing the device #{index}"),
        )
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] when it has it, [`NetlinkError::Missing`] when there is no such device; others as they say.
    pub fn add_address(&mut self, index: u32, address: &Address) -> Result<(), NetlinkError> {
        let (ip, length) = address.prefix;
        let doing = format_args!("adding the address {ip}/{length} to the device #{index}");
        if !is_prefix(address.prefix) {
            return Err(invalid("the prefix is longer than an address", &doing));
        }
        self.command(address.add(index), &doing)
    }

    /// Takes an address away from a device.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] when it does not have it; others as they say.
    pub fn remove_address(&mut self, index: u32, prefix: Prefix) -> Result<(), NetlinkError> {
        let (ip, length) = prefix;
        let doing = format_args!("removing the address {ip}/{length} from the device #{index}");
        if !is_prefix(prefix) {
            return Err(invalid("the prefix is longer than an address", &doing));
        }
        self.command(Address::remove(index, prefix), &doing)
    }

    /// The addresses of a device.
    ///
    /// # Errors
    /// As [`NetlinkError`] says.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let doing = format_args!("listing the addresses of the device #{index}");
        let listed = self.list(link::NEW_ADDRESS, &|| Address::list(index), &doing, |message| {
            Address::read(message, index)
        });
        none_if_missing(listed)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] when there is one to this destination with this metric in this table, by whatever way; others
    /// as they say.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let doing = format_args!("adding the route {route}");
        match route.flaw() {
            Some(flaw) => Err(invalid(flaw, &doing)),
            None => self.command(route.add(), &doing),
        }
    }

    /// Removes the first route that is as `route` says; what that leaves open may be anything.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] when there is none; others as they say.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let doing = format_args!("removing the route {route}");
        match route.flaw() {
            Some(flaw) => Err(invalid(flaw, &doing)),
            None => self.command(route.remove(), &doing),
        }
    }

    /// The routes of a table, of both families. One with several next hops is listed with neither device nor gateway; what
    /// [`Route`] cannot tell is left out: other kinds, and routes for a source or a class of traffic.
    ///
    /// # Errors
    /// As [`NetlinkError`] says.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>, NetlinkError> {
        let doing = format_args!("listing the routes of table {table}");
        let listed = self.list(route::NEW_ROUTE, &|| Route::list(table), &doing, |message| {
            Route::read(message, table)
        });
        // A table nobody has put a route into does not exist.
        none_if_missing(listed)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] when there is the same; others as they say.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.command(rule.add(), &format_args!("adding the rule {rule}"))
    }

    /// Removes the first rule that is as `rule` says. The kernel takes a mark and a suppressed length that are not given for
    /// any, so a priority of one's own is worth having.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] when there is none; others as they say.
    pub fn remove_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.command(rule.remove(), &format_args!("removing the rule {rule}"))
    }

    /// The rules of one family. What [`Rule`] cannot tell is left out: those with other conditions or actions.
    ///
    /// # Errors
    /// As [`NetlinkError`] says.
    pub fn rules(&mut self, v6: bool) -> Result<Vec<Rule>, NetlinkError> {
        self.list(
            rule::NEW_RULE,
            &|| Rule::list(v6),
            &"listing the rules",
            |message| Rule::read(message, v6),
        )
    }

    fn command(&mut self, request: Request, doing: &dyn Display) -> Result<(), NetlinkError> {
        self.exchange(request, doing, &mut |_| Ok(())).map(drop)
    }

    /// What `read` finds in the messages of this kind.
    fn list<T>(
        &mut self,
        kind: u16,
        request: &dyn Fn() -> Request,
        doing: &dyn Display,
        read: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let mut take = |message: &Message<'_>| {
                if message.kind == kind {
                    found.extend(read(message)?);
                }
                if found.len() > MAX_LISTED {
                    Err(NetlinkError::TooMany)
                } else {
                    Ok(())
                }
            };
            if self.exchange(request(), doing, &mut take)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Io(io::ErrorKind::Interrupted.into()))
    }

    /// Asks, and hands over what comes before the end of the answer. Whether a list is whole.
    fn exchange(
        &mut self,
        request: Request,
        doing: &dyn Display,
        take: &mut dyn FnMut(&Message<'_>) -> Result<(), NetlinkError>,
    ) -> Result<bool, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.finish(self.sequence))?;
        let mut answer = Answer::to(self.sequence);
        loop {
            let length = self.socket.recv(&mut self.datagram)?;
            let datagram = self.datagram.get(..length);
            let datagram = datagram.ok_or(Malformed("a datagram is longer than 64 KiB"))?;
            if let Some(verdict) = answer.read(datagram, take)? {
                verdict.into_result(doing)?;
                return answer.failure.map_or(Ok(answer.whole), Err);
            }
        }
    }
}

/// The answer to one request, as far as it has come.
#[derive(Debug)]
struct Answer {
    sequence: u32,
    whole: bool,
    /// Why the rest is not handed over. It is read all the same: the kernel begins no list before another is told to its end.
    failure: Option<NetlinkError>,
}

impl Answer {
    fn to(sequence: u32) -> Self {
        Self {
            sequence,
            whole: true,
            failure: None,
        }
    }

    /// Hands over what belongs to the answer; gives the verdict that ends it.
    fn read(
        &mut self,
        datagram: &[u8],
        take: &mut dyn FnMut(&Message<'_>) -> Result<(), NetlinkError>,
    ) -> Result<Option<Verdict>, Malformed> {
        for message in Messages::new(datagram) {
            let message = message?;
            // The rest of an answer nobody waited for.
            if message.sequence != self.sequence {
                continue;
            }
            match message.kind {
                NOTHING => {}
                ERROR => return Verdict::of_error(&message).map(Some),
                OVERRUN => return Err(Malformed("messages were lost")),
                kind => {
                    self.whole &= message.flags & INTERRUPTED == 0;
                    if kind == DONE {
                        return Verdict::of_done(&message).map(Some);
                    }
                    if self.failure.is_none() {
                        self.failure = take(&message).err();
                    }
                }
            }
        }
        Ok(None)
    }
}

fn none_if_missing<T>(listed: Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    match listed {
        Err(NetlinkError::Missing { .. }) => Ok(Vec::new()),
        listed => listed,
    }
}

fn invalid(reason: &'static str, doing: &dyn Display) -> NetlinkError {
    NetlinkError::Invalid {
        reason,
        doing: doing.to_string(),
    }
}

fn is_prefix((ip, length): Prefix) -> bool {
    length <= if ip.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests;
