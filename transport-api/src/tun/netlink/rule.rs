//! Rules of policy routing: who is sent to which table (`linux/fib_rules.h`).

use std::fmt;

use super::wire::{ACK, CREATE, DUMP, EXCLUSIVE, INET, INET6, Malformed, Message, Request, number};

pub(super) const NEW_RULE: u16 = 32;
const REMOVE_RULE: u16 = 33;
const GET_RULE: u16 = 34;

const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const SUPPRESS_PREFIX_LENGTH: u16 = 14;
const TABLE: u16 = 15;
const MASK: u16 = 16;
/// What says nothing about whom a rule is for: padding, and who made it.
const PADDING: u16 = 18;
const PROTOCOL: u16 = 21;

/// The action "look into a table".
const TO_TABLE: u8 = 1;
const INVERT: u32 = 0x2;
/// No length is suppressed.
const NONE: u32 = u32::MAX;

/// Sends packets, all or those with a mark, to a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// For IPv6; else for IPv4.
    pub v6: bool,
    /// Rules are asked in this order, lowest first. The kernel's own have 0, 32766 and 32767.
    pub priority: u32,
    /// For packets whose mark has this value in these bits (value, mask); for all if `None`.
    pub mark: Option<(u32, u32)>,
    /// For all other packets.
    pub invert: bool,
    /// Where to look.
    pub table: u32,
    /// Routes found whose prefix is at most this long do not count: 0 leaves out default routes.
    pub suppress_prefix_length: Option<u32>,
}

impl Rule {
    pub(super) fn add(&self) -> Request {
        self.request(NEW_RULE, ACK | CREATE | EXCLUSIVE)
    }

    pub(super) fn remove(&self) -> Request {
        self.request(REMOVE_RULE, ACK)
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let table = u8::try_from(self.table).unwrap_or(0);
        let invert = if self.invert { INVERT } else { 0 };
        let (mark, mask) = self.mark.unzip();
        Request::new(kind, flags)
            .fixed(&[family(self.v6), 0, 0, 0, table, 0, 0, TO_TABLE])
            .fixed(&invert.to_ne_bytes())
            .number(PRIORITY, self.priority)
            .number(TABLE, self.table)
            .number_if(MARK, mark)
            .number_if(MASK, mask)
            .number_if(SUPPRESS_PREFIX_LENGTH, self.suppress_prefix_length)
    }

    pub(super) fn list(v6: bool) -> Request {
        Request::new(GET_RULE, DUMP)
            .fixed(&[family(v6), 0, 0, 0])
            .fixed(&[0; 8])
    }

    /// The rule, if it is of this family and this type can tell all of it.
    pub(super) fn read(message: &Message<'_>, v6: bool) -> Result<Option<Self>, Malformed> {
        let (fixed, attributes) = message.split::<12>()?;
        let [of, to_length, from_length, tos, table, _, _, action, flags @ ..] = *fixed;
        if of != family(v6) || [to_length, from_length, tos] != [0; 3] || action != TO_TABLE {
            return Ok(None);
        }
        let mut rule = Self {
            v6,
            priority: 0,
            mark: None,
            invert: u32::from_ne_bytes(flags) & INVERT != 0,
            table: u32::from(table),
            suppress_prefix_length: None,
        };
        let (mut mark, mut mask) = (0, None);
        for attribute in attributes {
            match attribute? {
                (PRIORITY, value) => rule.priority = number(value)?,
                (TABLE, value) => rule.table = number(value)?,
                (MARK, value) => mark = number(value)?,
                (MASK, value) => mask = Some(number(value)?),
                (SUPPRESS_PREFIX_LENGTH, value) => {
                    rule.suppress_prefix_length = Some(number(value)?).filter(|&length| length != NONE);
                }
                (PADDING | PROTOCOL, _) => {}
                _ => return Ok(None),
            }
        }
        rule.mark = mask.map(|mask| (mark, mask));
        Ok(Some(rule))
    }
}

fn family(v6: bool) -> u8 {
    if v6 { INET6 } else { INET }
}

/// As `ip rule` writes it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.v6 { 6 } else { 4 };
        write!(f, "IPv{version} {}:", self.priority)?;
        if self.invert {
            f.write_str(" not")?;
        }
        f.write_str(" from all")?;
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        write!(f, " lookup {}", self.table)?;
        match self.suppress_prefix_length {
            Some(length) => write!(f, " suppress_prefixlength {length}"),
            None => Ok(()),
        }
    }
}
