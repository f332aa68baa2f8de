//! Names of streams and datagrams, and the classes they belong to.

use std::fmt;

/// Which end of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whether a stream carries bytes both ways or only from its initiator (RFC 9000 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// Both ends send.
    Bi,
    /// Only the initiator sends.
    Uni,
}

impl Direction {
    /// Both directions, in the order of their bits on the wire.
    pub const ALL: [Self; 2] = [Self::Bi, Self::Uni];
}

/// One value for each direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerDirection<T> {
    pub(crate) bi: T,
    pub(crate) uni: T,
}

impl<T> PerDirection<T> {
    pub(crate) fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Bi => &self.bi,
            Direction::Uni => &self.uni,
        }
    }

    pub(crate) fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Bi => &mut self.bi,
            Direction::Uni => &mut self.uni,
        }
    }
}

/// A stream identifier; the two low bits say who opened it and its direction (RFC 9000 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The `index`-th stream that `initiator` opens in `direction`.
    #[must_use]
    pub fn new(initiator: Side, direction: Direction, index: u64) -> Self {
        let side = u64::from(initiator == Side::Server);
        let uni = u64::from(direction == Direction::Uni);
        Self(index << 2 | uni << 1 | side)
    }

    /// Reads an identifier as it stands on the wire.
    #[must_use]
    pub const fn from_wire(value: u64) -> Self {
        Self(value)
    }

    /// The identifier as it stands on the wire.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Who opened the stream.
    #[must_use]
    pub fn initiator(self) -> Side {
        if self.0 & 1 == 0 {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// Whether it carries bytes both ways.
    #[must_use]
    pub fn direction(self) -> Direction {
        if self.0 & 2 == 0 {
            Direction::Bi
        } else {
            Direction::Uni
        }
    }

    /// Its place among the streams of the same initiator and direction, from zero.
    #[must_use]
    pub fn index(self) -> u64 {
        self.0 >> 2
    }
}

impl From<StreamId> for u64 {
    fn from(id: StreamId) -> Self {
        id.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} {}",
            self.initiator(),
            self.direction(),
            self.index()
        )
    }
}

/// A datagram handed to the scheduler; rises by one with each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct DatagramId(pub(crate) u64);

impl DatagramId {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// How urgent a message is. Control goes first (policed to a tenth), then Realtime by deadline (to a half), then the
/// other three by weights 8 : 4 : 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub enum Class {
    /// What keeps the connection or the application working; small.
    Control,
    /// Worthless when late.
    Realtime,
    /// Somebody waits for it.
    Interactive,
    /// Throughput matters; what a stream is unless told otherwise.
    #[default]
    Bulk,
    /// May use what is left.
    Background,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Control,
        Self::Realtime,
        Self::Interactive,
        Self::Bulk,
        Self::Background,
    ];
}

/// One value for each class.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerClass<T> {
    pub(crate) control: T,
    pub(crate) realtime: T,
    pub(crate) interactive: T,
    pub(crate) bulk: T,
    pub(crate) background: T,
}

impl<T> PerClass<T> {
    pub(crate) fn get(&self, class: Class) -> &T {
        match class {
            Class::Control => &self.control,
            Class::Realtime => &self.realtime,
            Class::Interactive => &self.interactive,
            Class::Bulk => &self.bulk,
            Class::Background => &self.background,
        }
    }

    pub(crate) fn get_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Control => &mut self.control,
            Class::Realtime => &mut self.realtime,
            Class::Interactive => &mut self.interactive,
            Class::Bulk => &mut self.bulk,
            Class::Background => &mut self.background,
        }
    }

    pub(crate) fn each(&self) -> [&T; 5] {
        [
            &self.control,
            &self.realtime,
            &self.interactive,
            &self.bulk,
            &self.background,
        ]
    }

    pub(crate) fn each_mut(&mut self) -> [&mut T; 5] {
        [
            &mut self.control,
            &mut self.realtime,
            &mut self.interactive,
            &mut self.bulk,
            &mut self.background,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_are_those_of_rfc_9000() {
        assert_eq!(StreamId::new(Side::Client, Direction::Bi, 0).get(), 0);
        assert_eq!(StreamId::new(Side::Server, Direction::Bi, 0).get(), 1);
        assert_eq!(StreamId::new(Side::Client, Direction::Uni, 0).get(), 2);
        assert_eq!(StreamId::new(Side::Server, Direction::Uni, 5).get(), 23);
        let id = StreamId::from_wire(23);
        assert_eq!(
            (id.initiator(), id.direction(), id.index()),
            (Side::Server, Direction::Uni, 5)
        );
    }
}
