//! What the peer did wrong, what cannot be taken now, and what the application asked in vain.

use std::{error, fmt};

macro_rules! display {
    ($type:ty { $($pattern:pat => $($text:expr),+;)+ }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $($pattern => write!(f, $($text),+),)+ }
            }
        }
        impl error::Error for $type {}
    };
}

/// The peer broke a rule; the connection ends. Core gives each a wire code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Violation {
    /// More bytes than were allowed (RFC 9000 §4.1).
    FlowControl,
    /// A stream beyond the announced limit (RFC 9000 §4.6).
    StreamLimit,
    /// A frame for a stream that cannot receive it (RFC 9000 §3).
    StreamState,
    /// The final size changed, or data lies beyond it (RFC 9000 §4.5).
    FinalSize,
    /// Streams are opened and cancelled faster than honest use explains.
    ExcessiveResets,
}

display!(Violation {
    Self::FlowControl => "flow control limit exceeded";
    Self::StreamLimit => "stream limit exceeded";
    Self::StreamState => "frame not allowed in this stream state";
    Self::FinalSize => "final size of a stream changed";
    Self::ExcessiveResets => "streams cancelled too fast";
});

/// Not the peer's fault: the packet must be dropped before it is acknowledged, so that it comes again. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// The stream has as many disjoint pieces as it may.
    SegmentsFull,
}

display!(Refused {
    Self::SegmentsFull => "too many disjoint segments";
});

/// Why an input was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiveError {
    /// The connection must end.
    Violation(Violation),
    /// The packet must be dropped.
    Refused(Refused),
}

display!(ReceiveError {
    Self::Violation(violation) => "{violation}";
    Self::Refused(refused) => "{refused}";
});

impl From<Violation> for ReceiveError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Refused> for ReceiveError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// The peer allows no further stream now; [`StreamsAvailable`](crate::Event::StreamsAvailable) tells when it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamsExhausted;

display!(StreamsExhausted {
    Self => "the peer allows no further stream now";
});

/// Why a write, finish or reset was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The send buffer is full; [`Writable`](crate::Event::Writable) tells when it is not.
    Blocked,
    /// The peer asked us to stop, with this code.
    Stopped(u64),
    /// No such stream, or it cannot be written.
    Unknown,
    /// The stream was finished or reset before.
    Finished,
}

display!(WriteError {
    Self::Blocked => "send buffer full";
    Self::Stopped(code) => "stopped by the peer with code {code}";
    Self::Unknown => "no such stream to write";
    Self::Finished => "stream already finished or reset";
});

/// Why a read or stop was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing to read yet; [`Readable`](crate::Event::Readable) tells when there is.
    Blocked,
    /// The peer gave the stream up, with this code.
    Reset(u64),
    /// No such stream, it cannot be read, or its end was read before.
    Unknown,
    /// We stopped the stream ourselves.
    Stopped,
}

display!(ReadError {
    Self::Blocked => "nothing to read yet";
    Self::Reset(code) => "reset by the peer with code {code}";
    Self::Unknown => "no such stream to read";
    Self::Stopped => "reading was stopped";
});

/// Why a datagram was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DatagramError {
    /// Larger than fits one packet, or than the whole queue.
    TooLarge {
        /// The largest that is taken now, in bytes.
        max: usize,
    },
    /// The peer takes no datagrams.
    Disabled,
}

display!(DatagramError {
    Self::TooLarge { max } => "datagram larger than {max} bytes";
    Self::Disabled => "the peer takes no datagrams";
});
