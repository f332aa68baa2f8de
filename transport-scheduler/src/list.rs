//! Doubly linked lists through an arena: any member is removed in constant time, and none is allocated.

/// A place in the arena.
pub(crate) type Key = u32;
const NONE: Key = Key::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: Key,
    after: Key,
}

/// Makes room for `key`: for no more than the few streams that most connections have, by doubling for others.
pub(crate) fn reach<T: Clone>(places: &mut Vec<T>, key: Key, empty: T) {
    const FEW: usize = 16;
    let wanted = key as usize + 1;
    if places.len() < wanted {
        if wanted <= FEW {
            places.reserve_exact(wanted - places.len());
        }
        places.resize(wanted, empty);
    }
}

const ALONE: Link = Link {
    before: NONE,
    after: NONE,
};

/// The ends of one list; its members are in the [`Links`] it is used with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: Key,
    tail: Key,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }
}

impl List {
    pub(crate) fn front(self) -> Option<Key> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.head == NONE
    }

    /// Whether there is one member at most.
    pub(crate) fn is_single(self) -> bool {
        self.head == self.tail
    }
}

/// One link for each key: a key is in at most one list of an arena.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Vec<Link>,
}

impl Links {
    /// Makes room for `key`.
    pub(crate) fn reach(&mut self, key: Key) {
        reach(&mut self.links, key, ALONE);
    }

    /// Appends `key`, which is in no list.
    pub(crate) fn push_back(&mut self, list: &mut List, key: Key) {
        let Some(link) = self.links.get_mut(key as usize) else {
            return;
        };
        *link = Link {
            before: list.tail,
            after: NONE,
        };
        match self.links.get_mut(list.tail as usize) {
            Some(last) => last.after = key,
            None => list.head = key,
        }
        list.tail = key;
    }

    /// Removes `key`, which is in `list`.
    pub(crate) fn remove(&mut self, list: &mut List, key: Key) {
        let Some(link) = self.links.get_mut(key as usize) else {
            return;
        };
        let Link { before, after } = std::mem::replace(link, ALONE);
        match self.links.get_mut(before as usize) {
            Some(previous) => previous.after = after,
            None => list.head = after,
        }
        match self.links.get_mut(after as usize) {
            Some(next) => next.before = before,
            None => list.tail = before,
        }
    }

    /// Gives up the room for keys from `len` on, none of which is in a list.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.links.truncate(len);
        self.links.shrink_to(len);
    }

    pub(crate) fn memory(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn agrees_with_two_deques() {
        arbtest::arbtest(|u| {
            let (mut links, mut lists) = (Links::default(), [List::default(); 2]);
            let mut model = [VecDeque::new(), VecDeque::new()];
            links.reach(15);
            while !u.is_empty() {
                let key = u.arbitrary::<Key>()? % 16;
                let which = usize::from(u.arbitrary::<bool>()?);
                if let Some(i) = (0..2).find(|&i| model[i].contains(&key)) {
                    links.remove(&mut lists[i], key);
                    model[i].retain(|&k| k != key);
                } else {
                    links.push_back(&mut lists[which], key);
                    model[which].push_back(key);
                }
                for i in 0..2 {
                    assert_eq!(lists[i].front(), model[i].front().copied());
                    assert_eq!(lists[i].is_empty(), model[i].is_empty());
                }
            }
            for i in 0..2 {
                while let Some(key) = model[i].pop_front() {
                    assert_eq!(lists[i].front(), Some(key));
                    links.remove(&mut lists[i], key);
                }
                assert!(lists[i].is_empty());
            }
            Ok(())
        })
        .budget_ms(200);
    }
}
