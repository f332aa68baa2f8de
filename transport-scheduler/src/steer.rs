//! The control frames that are due. Only *that* a frame is due is kept; what it says is looked up when it leaves, so a frame
//! sent again says what is true then.

use crate::fair::Interest;
use crate::list::{Links, List};
use crate::stream::table::Slot;
use crate::stream::{Due, DueSet};
use crate::token::Carried;
use crate::{CONTROL_FLOW, Control, Direction, Scheduler};

/// Frames of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Topic {
    MaxData,
    MaxStreamsBi,
    MaxStreamsUni,
    DataBlocked,
    StreamsBlockedBi,
    StreamsBlockedUni,
}

impl Topic {
    const ALL: [Self; 6] = [
        Self::MaxData,
        Self::MaxStreamsBi,
        Self::MaxStreamsUni,
        Self::DataBlocked,
        Self::StreamsBlockedBi,
        Self::StreamsBlockedUni,
    ];

    pub(crate) fn max_streams(direction: Direction) -> Self {
        match direction {
            Direction::Bi => Self::MaxStreamsBi,
            Direction::Uni => Self::MaxStreamsUni,
        }
    }

    pub(crate) fn streams_blocked(direction: Direction) -> Self {
        match direction {
            Direction::Bi => Self::StreamsBlockedBi,
            Direction::Uni => Self::StreamsBlockedUni,
        }
    }
}

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Connection(Topic),
    Stream(Slot, Due),
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Steering {
    topics: u8,
    links: Links,
    streams: List,
}

impl Steering {
    /// Makes room for `slot`.
    pub(crate) fn reach(&mut self, slot: Slot) {
        self.links.reach(slot);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.topics == 0 && self.streams.is_empty()
    }

    pub(crate) fn truncate(&mut self) {
        self.links.truncate(0);
    }

    pub(crate) fn memory(&self) -> usize {
        self.links.memory()
    }

    fn topic(&self) -> Option<Topic> {
        Topic::ALL
            .into_iter()
            .find(|&topic| self.topics & 1 << topic as u8 != 0)
    }
}

impl Scheduler {
    /// A frame of the connection is due.
    pub(crate) fn owe_connection(&mut self, topic: Topic) {
        self.steering.topics |= 1 << topic as u8;
        self.note_steering();
    }

    /// A frame of a stream is due.
    pub(crate) fn owe(&mut self, slot: Slot, due: Due) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        if stream.due == DueSet::default() {
            self.steering.links.push_back(&mut self.steering.streams, slot);
        }
        stream.due.insert(due);
        self.note_steering();
    }

    /// The frame is no longer due.
    pub(crate) fn settle_due(&mut self, source: Source) {
        match source {
            Source::Connection(topic) => self.steering.topics &= !(1 << topic as u8),
            Source::Stream(slot, due) => {
                let Some(stream) = self.streams.get_mut(slot) else {
                    return;
                };
                let before = stream.due;
                stream.due.remove(due);
                if stream.due == DueSet::default() && before != stream.due {
                    self.steering.links.remove(&mut self.steering.streams, slot);
                }
            }
        }
        self.note_steering();
    }

    /// The stream goes: nothing of it is due. Called while it still is in the table.
    pub(crate) fn drop_dues(&mut self, slot: Slot) {
        while let Some(due) = self.streams.get(slot).and_then(|stream| stream.due.first()) {
            self.settle_due(Source::Stream(slot, due));
        }
    }

    /// The most urgent frame that is due and still means something.
    pub(crate) fn control_due(&mut self) -> Option<(Control, Source)> {
        loop {
            let source = if let Some(topic) = self.steering.topic() {
                Source::Connection(topic)
            } else {
                let slot = self.steering.streams.front()?;
                Source::Stream(slot, self.streams.get(slot)?.due.first()?)
            };
            let control = match source {
                Source::Connection(topic) => self.connection_frame(topic),
                Source::Stream(slot, due) => self.stream_frame(slot, due),
            };
            if let Some(control) = control {
                return Some((control, source));
            }
            self.settle_due(source);
        }
    }

    /// A control frame was lost: it is due again unless a later one, or the course of things, made it pointless. What it
    /// says is looked up when it leaves; here only whether a later one was sent matters.
    pub(crate) fn control_lost(&mut self, carried: Carried) {
        match carried {
            Carried::MaxData(max) if max == self.window.announced() => {
                self.owe_connection(Topic::MaxData);
            }
            Carried::MaxStreams(direction, max) if max == self.theirs.get(direction).count.announced() => {
                self.owe_connection(Topic::max_streams(direction));
            }
            Carried::DataBlocked(at) if self.credit.blocked_at(at) => {
                self.owe_connection(Topic::DataBlocked);
            }
            Carried::StreamsBlocked(direction, at) if self.ours.get(direction).allowed == at => {
                self.owe_connection(Topic::streams_blocked(direction));
            }
            Carried::Reset(id) => self.owe_again(id, Due::Reset, |_| true),
            Carried::Stop(id) => self.owe_again(id, Due::Stop, |_| true),
            Carried::MaxStreamData(id, max) => self.owe_again(id, Due::MaxData, |stream| {
                let recv = stream.recv.as_ref();
                recv.is_some_and(|recv| recv.window.announced() == max)
            }),
            Carried::StreamDataBlocked(id, at) => self.owe_again(id, Due::Blocked, |stream| {
                let send = stream.send.as_ref();
                send.is_some_and(|send| send.credit.blocked_at(at))
            }),
            Carried::Stream { .. }
            | Carried::Datagram(..)
            | Carried::MaxData(_)
            | Carried::MaxStreams(..)
            | Carried::DataBlocked(_)
            | Carried::StreamsBlocked(..) => {}
        }
    }

    /// Lets the order know whether control frames wait.
    pub(crate) fn note_steering(&mut self) {
        let interest = if self.steering.is_empty() || self.early {
            Interest::None
        } else {
            Interest::Ahead
        };
        self.fair.set(CONTROL_FLOW, interest);
    }

    fn owe_again(&mut self, id: crate::StreamId, due: Due, still: impl Fn(&crate::Stream) -> bool) {
        let slot = self.streams.slot(id);
        // What has arrived by another copy is not announced again: it would be news that is never said.
        let matters = |&slot: &Slot| {
            self.streams.get(slot).is_some_and(&still) && self.stream_frame(slot, due).is_some()
        };
        if let Some(slot) = slot.filter(matters) {
            self.owe(slot, due);
        }
    }

    fn connection_frame(&self, topic: Topic) -> Option<Control> {
        let blocked = |direction| {
            let ours = self.ours.get(direction);
            (ours.opened >= ours.allowed && ours.wanted).then_some(Control::StreamsBlocked {
                direction,
                at: ours.allowed,
            })
        };
        let max = |direction| Control::MaxStreams {
            direction,
            max: self.theirs.get(direction).count.announced(),
        };
        match topic {
            Topic::MaxData => Some(Control::MaxData {
                max: self.window.announced(),
            }),
            Topic::MaxStreamsBi => Some(max(Direction::Bi)),
            Topic::MaxStreamsUni => Some(max(Direction::Uni)),
            Topic::DataBlocked => {
                let at = self.credit.limit();
                self.credit.blocked_at(at).then_some(Control::DataBlocked { at })
            }
            Topic::StreamsBlockedBi => blocked(Direction::Bi),
            Topic::StreamsBlockedUni => blocked(Direction::Uni),
        }
    }

    fn stream_frame(&self, slot: Slot, due: Due) -> Option<Control> {
        let stream = self.streams.get(slot)?;
        let id = stream.id;
        match due {
            Due::Reset => stream.send.as_ref()?.reset_frame(id),
            Due::Stop => {
                let code = stream.recv.as_ref()?.stop_wanted()?;
                Some(Control::StopSending { id, code })
            }
            Due::MaxData => {
                let recv = stream.recv.as_ref().filter(|recv| recv.limit_matters())?;
                Some(Control::MaxStreamData {
                    id,
                    max: recv.window.announced(),
                })
            }
            Due::Blocked => {
                let send = stream.send.as_ref().filter(|send| send.is_held_back())?;
                Some(Control::StreamDataBlocked {
                    id,
                    at: send.credit.limit(),
                })
            }
        }
    }
}

/// What a packet remembers of a control frame.
pub(crate) fn carried(control: Control) -> Carried {
    match control {
        Control::MaxData { max } => Carried::MaxData(max),
        Control::MaxStreamData { id, max } => Carried::MaxStreamData(id, max),
        Control::MaxStreams { direction, max } => Carried::MaxStreams(direction, max),
        Control::DataBlocked { at } => Carried::DataBlocked(at),
        Control::StreamDataBlocked { id, at } => Carried::StreamDataBlocked(id, at),
        Control::StreamsBlocked { direction, at } => Carried::StreamsBlocked(direction, at),
        Control::ResetStream { id, .. } => Carried::Reset(id),
        Control::StopSending { id, .. } => Carried::Stop(id),
    }
}
