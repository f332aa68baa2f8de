//! One frame, one call.
#![forbid(unsafe_code)]

use std::time::Duration;

use transport_crypto::Bundle;
use transport_reliability::{AckInput, AckRange, EcnCounts};
use transport_scheduler::{Direction, Input, ReceiveError, Side, StreamId};

use super::close::reason_of;
use super::receive::{Arrival, Verdict};
use super::{Connection, Event, Peer};
use crate::config::Now;
use crate::error::{Breach, code, of_ack, of_violation};
use crate::trace::{self, DropReason, Tracer};
use crate::wire::frame::{
    Close, ControlData, ControlKind, Datagram, Frame, Frames, MAX_ACK_RANGES, PathAck, Stream,
};

/// Why a packet is not taken further.
enum Stop {
    Refused,
    Breach(Breach),
}

impl From<Breach> for Stop {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

impl Connection {
    /// All frames of a packet, in order. While we close only CLOSE matters.
    pub(super) fn dispatch_all(
        &mut self,
        arrival: &Arrival,
        frames: &[u8],
        tracer: &mut Tracer<'_>,
    ) -> Verdict {
        let from_server = self.settings.side == Side::Client;
        let mut eliciting = false;
        if frames.is_empty() {
            return Verdict::Breach(Breach::new(code::PROTOCOL_VIOLATION, 0));
        }
        for frame in Frames::new(frames) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    return Verdict::Breach(Breach::new(code::FRAME_ENCODING_ERROR, error.frame_type));
                }
            };
            if !frame.is_allowed_from(from_server) || (arrival.early && !frame.is_allowed_early()) {
                return Verdict::Breach(Breach::new(code::PROTOCOL_VIOLATION, frame.frame_type()));
            }
            eliciting |= frame.is_ack_eliciting();
            // Behind the end only the other side's last word counts.
            if !self.state.is_open() && !matches!(frame, Frame::Close(_)) {
                continue;
            }
            match self.dispatch(arrival, &frame, tracer) {
                Ok(()) => {}
                Err(Stop::Refused) => return Verdict::Refused,
                Err(Stop::Breach(breach)) => return Verdict::Breach(breach),
            }
        }
        Verdict::Taken { eliciting }
    }

    fn dispatch(
        &mut self,
        arrival: &Arrival,
        frame: &Frame<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Stop> {
        match frame {
            Frame::Padding { .. } | Frame::Ping => Ok(()),
            Frame::PathAck(ack) => Ok(self.on_ack(arrival, ack, tracer)?),
            Frame::AckFrequency(frequency) => Ok(self.on_ack_frequency(frequency)?),
            Frame::ImmediateAck => {
                self.paths
                    .active
                    .recovery
                    .acknowledge_immediately(arrival.now.instant);
                Ok(())
            }
            Frame::Stream(stream) => self.on_stream(arrival, stream),
            Frame::Datagram(datagram) => {
                self.on_datagram(datagram, tracer);
                Ok(())
            }
            Frame::ResetStream { id, code, final_size } => {
                let input = Input::Reset {
                    id: StreamId::from_wire(*id),
                    code: *code,
                    final_size: *final_size,
                };
                self.schedule(arrival, frame, input)
            }
            Frame::StopSending { id, code } => self.schedule(
                arrival,
                frame,
                Input::Stop {
                    id: StreamId::from_wire(*id),
                    code: *code,
                },
            ),
            Frame::MaxData { max } => self.schedule(arrival, frame, Input::MaxData(*max)),
            Frame::MaxStreamData { id, max } => self.schedule(
                arrival,
                frame,
                Input::MaxStreamData {
                    id: StreamId::from_wire(*id),
                    max: *max,
                },
            ),
            Frame::MaxStreams { uni, max } => self.schedule(
                arrival,
                frame,
                Input::MaxStreams {
                    direction: direction(*uni),
                    max: *max,
                },
            ),
            Frame::DataBlocked { at } => self.schedule(arrival, frame, Input::DataBlocked { at: *at }),
            Frame::StreamDataBlocked { id, at } => self.schedule(
                arrival,
                frame,
                Input::StreamDataBlocked {
                    id: StreamId::from_wire(*id),
                    at: *at,
                },
            ),
            Frame::StreamsBlocked { uni, at } => self.schedule(
                arrival,
                frame,
                Input::StreamsBlocked {
                    direction: direction(*uni),
                    at: *at,
                },
            ),
            Frame::PathChallenge(data) => {
                if let Some(path) = self.paths.get_mut(arrival.path) {
                    path.responses.push(arrival.route, *data, arrival.size);
                }
                Ok(())
            }
            Frame::PathResponse(data) => {
                self.on_path_response(arrival, *data, tracer);
                Ok(())
            }
            Frame::Close(close) => {
                self.on_close(arrival, close);
                Ok(())
            }
            Frame::HandshakeDone => {
                self.on_handshake_done(tracer);
                Ok(())
            }
            Frame::NewTicket(ticket) => {
                self.on_ticket(arrival.now, ticket);
                Ok(())
            }
            Frame::PathNewConnectionId(new) => Ok(self.on_new_connection_id(*new)?),
            Frame::PathRetireConnectionId(retire) => Ok(self.on_retire_connection_id(*retire)?),
            Frame::PathAbandon(end) => Ok(self.on_path_abandon(arrival, *end, tracer)?),
            Frame::PathStatus(status) => Ok(self.on_path_status(arrival, *status, tracer)?),
            Frame::MaxPathId { max } => {
                self.on_max_path_id(*max);
                Ok(())
            }
            Frame::PathsBlocked { at: path } | Frame::PathCidsBlocked { path, .. } => {
                Ok(self.on_paths_blocked(*path, frame.frame_type())?)
            }
            Frame::ControlData(piece) => Ok(self.on_control(arrival, piece, tracer)?),
            Frame::ObservedAddress(seen) => Ok(self.on_observed_address(arrival, *seen, tracer)?),
            Frame::AddAddress(new) => Ok(self.on_add_address(arrival, *new, tracer)?),
            Frame::RemoveAddress { sequence } => Ok(self.on_remove_address(*sequence, tracer)?),
            Frame::PunchMeNow(ask) => Ok(self.on_punch_me_now(arrival, *ask, tracer)?),
        }
    }

    fn on_control(
        &mut self,
        arrival: &Arrival,
        piece: &ControlData<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        if piece.kind != ControlKind::Bundle {
            // Proofs and rekeying come on request, and this version asks for neither.
            tracer.dropped(DropReason::ControlUnasked, piece.data.len());
            return Ok(());
        }
        if let Some(bytes) = self.pending.control.receive(piece)? {
            match self.read_bundle(arrival.now, &bytes) {
                Some(bundle) => self.inbox.push(Event::Bundle(bundle)),
                None => tracer.dropped(DropReason::BundleRefused, bytes.len()),
            }
        }
        Ok(())
    }

    /// A bundle that is worth more than the one we have; the cheap questions first.
    fn read_bundle(&mut self, now: Now, bytes: &[u8]) -> Option<Bundle> {
        let known = self.pending.control.epoch();
        let newer = Bundle::claimed_epoch(bytes).is_some_and(|epoch| epoch > known);
        if !newer || !self.pending.control.may_check(now.instant) {
            return None;
        }
        let Peer::Relay(relay) = self.settings.info.peer else {
            return None;
        };
        let bundle = Bundle::parse(bytes).ok()?;
        bundle.check_id(&relay).ok()?;
        bundle.check_time(now.unix_ms / 1000).ok()?;
        self.pending.control.took(bundle.epoch());
        Some(bundle)
    }

    fn on_ack(
        &mut self,
        arrival: &Arrival,
        ack: &PathAck<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let breach = |code| Breach::new(code, crate::wire::frame::kind::PATH_ACK);
        let Some(id) = self.path_named(ack.path(), breach(code::PROTOCOL_VIOLATION))? else {
            return Ok(());
        };
        let mut ranges = [AckRange { first: 0, last: 0 }; MAX_ACK_RANGES];
        let mut count = 0;
        for (slot, range) in ranges.iter_mut().zip(ack.ranges()) {
            *slot = AckRange {
                first: *range.start(),
                last: *range.end(),
            };
            count += 1;
        }
        let input = AckInput {
            largest: ack.largest(),
            delay: Duration::from_micros(ack.delay_us()),
            ranges: ranges.get(..count).unwrap_or_default(),
            ecn: ack.marks().map(|[ect0, ect1, ce]| EcnCounts { ect0, ect1, ce }),
        };
        let now = arrival.now.instant;
        // Nothing was sent on a path that was not opened.
        let path = self.paths.get_mut(id).ok_or(breach(code::PROTOCOL_VIOLATION))?;
        let before = path.recovery.stats().ecn;
        path.recovery
            .on_ack(now, input, &mut path.outcome)
            .map_err(|violation| breach(of_ack(violation)))?;
        let progress = !path.outcome.acked.is_empty();
        let ecn = path.recovery.stats().ecn;
        if ecn != before {
            tracer.tell(|connection| trace::Event::EcnChanged { connection, ecn });
        }
        if let Some(keys) = &mut self.keys {
            keys.acknowledged(id.get(), ack.largest(), now);
        }
        self.deliver(id, now, tracer);
        // What came by another path says nothing about the way back of this one.
        if progress && arrival.path == id {
            self.on_progress(id, ack.largest(), now, tracer);
        }
        Ok(())
    }

    fn on_stream(&mut self, arrival: &Arrival, stream: &Stream<'_>) -> Result<(), Stop> {
        let Stream {
            id,
            offset,
            data,
            fin,
        } = *stream;
        let input = Input::Stream {
            id: StreamId::from_wire(id),
            offset,
            data,
            fin,
        };
        self.schedule(arrival, &Frame::Stream(*stream), input)
    }

    fn schedule(&mut self, arrival: &Arrival, frame: &Frame<'_>, input: Input<'_>) -> Result<(), Stop> {
        self.scheduler
            .receive(arrival.now.instant, input)
            .map_err(|error| match error {
                ReceiveError::Violation(violation) => {
                    Breach::new(of_violation(violation), frame.frame_type()).into()
                }
                ReceiveError::Refused(_) => Stop::Refused,
            })
    }

    fn on_datagram(&mut self, datagram: &Datagram<'_>, tracer: &mut Tracer<'_>) {
        if self.inbox.message(datagram.data, self.scheduler.spares()) {
            self.counters.datagrams_received += 1;
        } else {
            self.counters.datagrams_refused += 1;
            tracer.dropped(DropReason::DatagramQueueFull, datagram.data.len());
        }
    }

    fn on_close(&mut self, arrival: &Arrival, close: &Close<'_>) {
        if self.state.drain() {
            self.closing.silently(reason_of(close));
            self.begin_end(arrival.now.instant);
        }
    }

    fn on_handshake_done(&mut self, tracer: &mut Tracer<'_>) {
        if self.state.confirm() {
            self.ids.issue(&mut self.random);
            tracer.tell(|connection| trace::Event::Confirmed { connection });
        }
    }
}

fn direction(uni: bool) -> Direction {
    if uni { Direction::Uni } else { Direction::Bi }
}
