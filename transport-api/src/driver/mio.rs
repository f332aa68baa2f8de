//! The outside by mio: the socket, lanes and a timer, as sources of somebody's epoll instance.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::io::{Io, Sent};
use super::lanes::Lanes;
use crate::engine::net::{Caps, Timer, UdpSocket, interfaces};
use crate::engine::{Batch, Handle, Joined, Now, RecvBatch, Route};

/// Tokens of the socket and the timer, counted from the first that is ours. Lanes come after.
const SOCKET: usize = 0;
const TIMER: usize = 1;
const FIRST_LANE: usize = 2;

/// Kernel batches of up to this many GRO buffers.
const RECEIVE_SLOTS: usize = 32;

/// Sleeps shorter than this use the timer, because epoll counts in milliseconds and pacing does not.
const PRECISE: Duration = Duration::from_secs(1);

/// See [`Io`].
pub(crate) struct MioIo {
    registry: Registry,
    /// The first of our tokens.
    first: usize,
    socket: UdpSocket,
    timer: Timer,
    /// When the timer rings. It is left alone when that is too early: waking once for nothing costs less than setting it for
    /// each packet.
    rings_at: Option<Instant>,
    received: RecvBatch,
    readable: bool,
    /// What the socket is registered for, and what it shall be: reading, unless it rests; writing, while a send is blocked.
    registered: Option<Interest>,
    listening: bool,
    watching_writes: bool,
    lanes: Lanes,
    /// Paths begin at addresses of this machine.
    roams: bool,
    failures: u64,
}

impl MioIo {
    /// Registers everything under tokens from `first` on.
    pub(crate) fn new(registry: Registry, first: usize, socket: UdpSocket) -> io::Result<Self> {
        let timer = Timer::new()?;
        let add = |fd, token| registry.register(&mut SourceFd(&fd), Token(first + token), Interest::READABLE);
        add(timer.as_raw_fd(), TIMER)?;
        add(socket.as_raw_fd(), SOCKET)?;
        Ok(Self {
            registry,
            first,
            socket,
            timer,
            rings_at: None,
            received: RecvBatch::new(RECEIVE_SLOTS),
            readable: true,
            registered: Some(Interest::READABLE),
            listening: true,
            watching_writes: false,
            lanes: Lanes::new(first + FIRST_LANE),
            roams: false,
            failures: 0,
        })
    }

    /// Write readiness is watched only while a send is blocked: otherwise each transmitted packet would wake us.
    fn watch_writes(&mut self, on: bool) -> io::Result<()> {
        self.watching_writes = on;
        self.register()
    }

    fn register(&mut self) -> io::Result<()> {
        let wanted = match (self.listening, self.watching_writes) {
            (true, false) => Some(Interest::READABLE),
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        if wanted == self.registered {
            return Ok(());
        }
        let (registry, fd) = (&self.registry, self.socket.as_raw_fd());
        let token = Token(self.first + SOCKET);
        match (self.registered, wanted) {
            (None, Some(interest)) => registry.register(&mut SourceFd(&fd), token, interest)?,
            (Some(_), Some(interest)) => registry.reregister(&mut SourceFd(&fd), token, interest)?,
            (_, None) => registry.deregister(&mut SourceFd(&fd))?,
        }
        self.registered = wanted;
        Ok(())
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        self.failures += 1;
        if self.failures.is_power_of_two() {
            tracing::warn!(target: "adit::driver", %error, count = self.failures, "{what}");
        }
    }
}

impl Io for MioIo {
    fn set_alarm(&mut self, now: Instant, limit: Duration) -> io::Result<Option<Duration>> {
        if limit.is_zero() || limit >= PRECISE {
            return Ok(Some(limit));
        }
        let until = now + limit;
        if self.rings_at.is_none_or(|at| at <= now || at > until) {
            self.timer.arm(limit)?;
            self.rings_at = Some(until);
        }
        Ok(None)
    }

    fn on_ready(&mut self, event: &mio::event::Event) {
        match event.token().0.wrapping_sub(self.first) {
            SOCKET => self.readable |= event.is_readable(),
            TIMER => self.rings_at = None,
            _ => self.lanes.note(event.token().0),
        }
    }

    fn receive(&mut self, each: &mut dyn FnMut(Joined<'_>)) -> io::Result<bool> {
        match self.socket.recv_batch(&mut self.received) {
            Ok(_) => {
                // The poller tells of what arrives from here on.
                self.readable = !self.received.is_drained();
                self.received.joined().for_each(each);
                Ok(self.readable)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) => {
                // What ICMP said about an earlier packet, mostly; the next readiness tells more.
                self.complain("receive failed", &error);
                self.readable = false;
                Ok(false)
            }
        }
    }

    fn has_input(&self) -> bool {
        self.readable
    }

    fn send(&mut self, route: Route, batch: &mut Batch) -> Sent {
        match self.socket.send_batch(route, batch) {
            Ok(()) => {
                if let Err(error) = self.watch_writes(false) {
                    self.complain("cannot change interest", &error);
                }
                Sent::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.watch_writes(true) {
                Ok(()) => Sent::Blocked,
                Err(error) => {
                    self.complain("cannot change interest", &error);
                    Sent::Done
                }
            },
            Err(error) => {
                // Unreachable networks and oversized probes are losses; recovery deals with them.
                self.complain("send failed", &error);
                Sent::Done
            }
        }
    }

    fn receive_lane(&mut self, now: Now, each: &mut dyn FnMut(Joined<'_>)) -> bool {
        self.lanes.receive(now.instant, &mut self.received, each)
    }

    fn has_lane_input(&self) -> bool {
        self.lanes.has_input()
    }

    fn open_lane(&mut self, now: Now, handle: Handle, route: Route) {
        self.lanes
            .open(now.instant, &self.registry, &self.socket, handle, route);
    }

    fn close_lane(&mut self, handle: Handle) -> bool {
        self.lanes.close(handle)
    }

    fn listen(&mut self, on: bool) -> io::Result<()> {
        self.listening = on;
        self.register()
    }

    fn learn_interfaces(&mut self) {
        self.roams = true;
        match interfaces() {
            Ok(all) => {
                for one in all.iter().filter(|one| !one.loopback) {
                    self.socket.use_interface(one.address, one.index);
                }
            }
            Err(error) => self.complain("the system does not tell its interfaces", &error),
        }
    }

    fn caps(&self) -> Caps {
        self.socket.caps()
    }

    fn replace(&mut self, socket: UdpSocket) -> io::Result<()> {
        let token = Token(self.first + SOCKET);
        self.registry
            .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        let old = std::mem::replace(&mut self.socket, socket);
        if self.registered.is_some() {
            self.registry.deregister(&mut SourceFd(&old.as_raw_fd()))?;
        }
        self.readable = true;
        self.registered = Some(Interest::READABLE);
        (self.listening, self.watching_writes) = (true, false);
        self.lanes.clear();
        if self.roams {
            self.learn_interfaces();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::clock;
    use crate::driver::command::Alarm;
    use crate::driver::thread::{FIRST_TOKEN, Poller};
    use crate::engine::net::SocketOptions;
    use crate::local::guest::{Guest, Turn};
    use crate::wait::Wait;

    /// A socket with its poller, as a driver would have them.
    struct Polled {
        poller: Poller,
        io: MioIo,
    }

    impl Guest for MioIo {
        fn turn(&mut self) -> io::Result<Turn> {
            Ok(Turn::Over)
        }

        fn on_ready(&mut self, event: &mio::event::Event) {
            Io::on_ready(self, event);
        }
    }

    impl Polled {
        fn wait(&mut self, limit: Duration) -> io::Result<()> {
            let limit = self.io.set_alarm(clock::now().instant, limit)?;
            self.poller.wait(&mut self.io, limit)
        }
    }

    impl std::ops::Deref for Polled {
        type Target = MioIo;
        fn deref(&self) -> &MioIo {
            &self.io
        }
    }

    impl std::ops::DerefMut for Polled {
        fn deref_mut(&mut self) -> &mut MioIo {
            &mut self.io
        }
    }

    fn loopback() -> (Polled, std::net::SocketAddr, Box<dyn Alarm>) {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        let address = socket.local_addr().unwrap();
        let (poller, alarm) = Poller::new(Duration::ZERO).unwrap();
        let io = MioIo::new(poller.registry().unwrap(), FIRST_TOKEN, socket).unwrap();
        (Polled { poller, io }, address, alarm)
    }

    /// Reads until the kernel has nothing more.
    fn received(io: &mut MioIo) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while io
            .receive(&mut |joined| all.extend(joined.bytes.chunks(joined.stride).map(<[u8]>::to_vec)))
            .unwrap()
        {}
        all
    }

    #[test]
    fn a_batch_arrives_as_its_datagrams() {
        let (mut left, _, _alarm) = loopback();
        let (mut right, to, _alarm) = loopback();
        assert!(received(&mut right).is_empty() && !right.has_input());
        let mut batch = Batch::default();
        for fill in 0..5 {
            batch.push(&[fill; 1200]).unwrap();
        }
        batch.push(&[9; 10]).unwrap();
        assert_eq!(
            left.send(
                Route {
                    remote: to,
                    local: None
                },
                &mut batch
            ),
            Sent::Done
        );
        let mut all = Vec::new();
        while all.len() < 6 {
            right.wait(Duration::from_secs(20)).unwrap();
            assert!(right.has_input(), "waited in vain");
            all.extend(received(&mut right));
        }
        assert_eq!(
            all.iter().map(Vec::len).collect::<Vec<_>>(),
            [1200, 1200, 1200, 1200, 1200, 10]
        );
        assert!(
            all.iter()
                .zip([0, 1, 2, 3, 4, 9])
                .all(|(datagram, fill)| datagram.iter().all(|byte| *byte == fill))
        );
    }

    #[test]
    fn short_sleeps_are_precise() {
        let (mut io, _, _alarm) = loopback();
        received(&mut io);
        let wanted = Duration::from_micros(1300);
        let mut late: Vec<Duration> = (0..40)
            .map(|_| {
                let begin = clock::now().instant;
                io.wait(wanted).unwrap();
                let slept = clock::now().instant - begin;
                slept
                    .checked_sub(wanted)
                    .unwrap_or_else(|| panic!("woke early: {slept:?}"))
            })
            .collect();
        late.sort_unstable();
        // The best quarter: the rest belongs to whoever else uses the machine. Milliseconds would never pass.
        assert!(late[10] < Duration::from_micros(250), "{late:?}");
    }

    #[test]
    fn the_alarm_ends_a_sleep_from_another_thread() {
        let (mut io, _, alarm) = loopback();
        received(&mut io);
        let ringer = std::thread::spawn(move || {
            assert_eq!(
                std::future::pending::<()>().wait_timeout(Duration::from_millis(20)),
                None
            );
            alarm.ring().unwrap();
            alarm
        });
        let begin = clock::now().instant;
        io.wait(Duration::from_secs(30)).unwrap();
        assert!(clock::now().instant - begin < Duration::from_secs(15));
        ringer.join().unwrap();
    }

    #[test]
    fn another_socket_takes_over() {
        let (mut left, _, _alarm) = loopback();
        let (mut right, _, _alarm) = loopback();
        received(&mut right);
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        let to = socket.local_addr().unwrap();
        right.replace(socket).unwrap();
        received(&mut right);
        let mut batch = Batch::default();
        batch.push(b"new").unwrap();
        assert_eq!(
            left.send(
                Route {
                    remote: to,
                    local: None
                },
                &mut batch
            ),
            Sent::Done
        );
        right.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(received(&mut right), [b"new".to_vec()]);
    }

    #[test]
    fn a_lane_hears_its_peer_and_a_common_socket_at_rest_does_not_wake() {
        let (mut relay, at, _alarm) = loopback();
        let [peer, other] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let names = [&peer, &other].map(|socket| socket.local_addr().unwrap());
        received(&mut relay);
        let route = Route {
            remote: names[0],
            local: Some(at.ip()),
        };
        let handle = Handle::NOBODY;
        relay.open_lane(clock::now(), handle, route);
        relay.listen(false).unwrap();
        other.send_to(b"flood", at).unwrap();
        let begin = clock::now().instant;
        relay.wait(Duration::from_millis(30)).unwrap();
        assert!(
            clock::now().instant - begin >= Duration::from_millis(25),
            "woken by a stranger"
        );
        peer.send_to(b"packet", at).unwrap();
        relay.wait(Duration::from_secs(20)).unwrap();
        assert!(relay.has_lane_input() && !relay.has_input());
        let mut heard = Vec::new();
        while relay.receive_lane(clock::now(), &mut |joined| {
            heard.push((joined.arrived.route.remote, joined.bytes.to_vec()));
        }) {}
        assert_eq!(heard, [(names[0], b"packet".to_vec())]);
        relay.listen(true).unwrap();
        relay.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(received(&mut relay), [b"flood".to_vec()]);
        assert!(relay.close_lane(handle) && !relay.close_lane(handle));
        peer.send_to(b"again", at).unwrap();
        relay.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(received(&mut relay), [b"again".to_vec()]);
    }
}
