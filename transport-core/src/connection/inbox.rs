//! What the application has not yet been told.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use transport_scheduler::Spares;

use super::Event;

/// Messages of a peer cost at least this, so that many empty ones are bounded too.
const MESSAGE_COST: usize = 64;
/// Places of an empty queue that stay.
const KEPT: usize = 16;
/// Looks in vain without a message in between, after which the places of a busier time are given back. A flow, which fills and empties
/// the queue many times a second, keeps them.
const VAIN_LOOKS: u8 = 16;

/// A queue with a bound on what the peer can put into it; the few events of our own making are bounded by themselves.
#[derive(Debug)]
pub(crate) struct Inbox {
    events: VecDeque<Event>,
    message_bytes: usize,
    limit: usize,
    vain_looks: u8,
}

impl Inbox {
    /// Keeps messages of `limit` bytes together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            events: VecDeque::new(),
            message_bytes: 0,
            limit,
            vain_looks: 0,
        }
    }

    /// An event of our own making.
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.capacity() == 0 {
            // A silent connection has one at a time.
            self.events.reserve_exact(1);
        }
        self.events.push_back(event);
    }

    /// A message of the peer. False: no room, it is gone.
    pub(crate) fn message(&mut self, data: &[u8], spares: Option<&mut Spares>) -> bool {
        let cost = data.len() + MESSAGE_COST;
        if self.message_bytes + cost > self.limit {
            return false;
        }
        self.message_bytes += cost;
        self.vain_looks = 0;
        let mut copy = spares.map_or_else(Vec::new, |spares| spares.take(data.len()));
        copy.extend_from_slice(data);
        self.events.push_back(Event::DatagramReceived(copy));
        true
    }

    /// Events that wait: what [`Inbox::forget_messages`] goes back to.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes back the messages behind the first `keep` events; events of our own making stay. How many those were.
    pub(crate) fn forget_messages(&mut self, keep: usize) -> u64 {
        let mut forgotten = 0;
        for at in (keep..self.events.len()).rev() {
            if let Some(Event::DatagramReceived(data)) = self.events.get(at) {
                self.message_bytes -= data.len() + MESSAGE_COST;
                self.events.remove(at);
                forgotten += 1;
            }
        }
        forgotten
    }

    /// The oldest event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() == 1 {
            self.events = VecDeque::new();
        }
        match &event {
            Some(Event::DatagramReceived(data)) => self.message_bytes -= data.len() + MESSAGE_COST,
            Some(_) => {}
            None => self.rest(),
        }
        event
    }

    fn rest(&mut self) {
        self.vain_looks = self.vain_looks.saturating_add(1);
        if self.vain_looks >= VAIN_LOOKS {
            self.events.shrink_to(KEPT);
        }
    }

    /// Allocated bytes.
    pub(crate) fn memory(&self) -> usize {
        self.message_bytes + self.events.capacity() * size_of::<Event>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_leave_in_order() {
        let (mut inbox, mut spares) = (Inbox::new(1000), Spares::default());
        let taken = (0..100u8)
            .filter(|name| inbox.message(&[*name; 36], Some(&mut spares)))
            .count();
        assert_eq!(taken, 10);
        assert_eq!(inbox.pop(), Some(Event::DatagramReceived(vec![0; 36])));
        assert!(inbox.message(&[200; 36], Some(&mut spares)) && !inbox.message(&[], Some(&mut spares)));
        let last = std::iter::from_fn(|| inbox.pop()).last();
        assert_eq!(last, Some(Event::DatagramReceived(vec![200; 36])));
        assert_eq!(inbox.message_bytes, 0);
    }

    #[test]
    fn messages_can_be_taken_back_and_nothing_else() {
        let (mut inbox, mut spares) = (Inbox::new(1000), Spares::default());
        let own = || Event::MtuChanged { max_datagram: 1 };
        assert!(inbox.message(b"before", Some(&mut spares)));
        let keep = inbox.len();
        assert!(inbox.message(b"a", Some(&mut spares)));
        inbox.push(own());
        assert!(inbox.message(b"b", Some(&mut spares)));
        assert_eq!(inbox.forget_messages(keep), 2);
        let left: Vec<Event> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(left, [Event::DatagramReceived(b"before".to_vec()), own()]);
        assert_eq!(inbox.message_bytes, 0);
    }

    #[test]
    fn a_flow_keeps_its_places_and_silence_gives_them_back() {
        let (mut inbox, mut spares) = (Inbox::new(100_000), Spares::default());
        let mut round = |inbox: &mut Inbox| {
            (0..100u8).for_each(|name| assert!(inbox.message(&[name], Some(&mut spares))));
            while let Some(Event::DatagramReceived(data)) = inbox.pop() {
                spares.put(data);
            }
            inbox.memory()
        };
        let busy = round(&mut inbox);
        assert!((0..50).all(|_| round(&mut inbox) == busy));
        assert!((0..VAIN_LOOKS).all(|_| inbox.pop().is_none()));
        assert!(inbox.memory() <= KEPT * size_of::<Event>());
    }
}
