//! What the kernel said no to, and why.

use std::fmt;
use std::io;

use super::wire::{Attributes, Malformed, Message, text};

/// Why the kernel did not do what it was asked for. `doing` says what that was.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetlinkError {
    /// What was to be added is there already.
    Exists {
        /// What was tried.
        doing: String,
    },
    /// What was to be removed, or the device it was about, is not there.
    Missing {
        /// What was tried.
        doing: String,
    },
    /// The process may not change the network.
    NoPrivilege {
        /// What was tried.
        doing: String,
    },
    /// Another refusal.
    Kernel {
        /// The system's number of the error.
        errno: i32,
        /// What the kernel says about it, which may be nothing.
        text: String,
        /// What was tried.
        doing: String,
    },
    /// What was asked for cannot be; the kernel was not asked.
    Invalid {
        /// What is wrong with it.
        reason: &'static str,
        /// What was tried.
        doing: String,
    },
    /// The kernel's answer cannot be read.
    Malformed(&'static str),
    /// A list is longer than 131,072 entries.
    TooMany,
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { doing } => write!(f, "{doing}: it exists already"),
            Self::Missing { doing } => write!(f, "{doing}: there is no such thing"),
            Self::NoPrivilege { doing } => {
                write!(
                    f,
                    "{doing}: this needs the capability CAP_NET_ADMIN; run as root or grant it"
                )
            }
            Self::Kernel { errno, text, doing } => {
                write!(f, "{doing}: {}", io::Error::from_raw_os_error(*errno))?;
                if text.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {text}")
                }
            }
            Self::Invalid { reason, doing } => write!(f, "{doing}: {reason}"),
            Self::Malformed(what) => write!(f, "the kernel's answer cannot be read: {what}"),
            Self::TooMany => f.write_str("the kernel lists more entries than are read"),
            Self::Io(error) => write!(f, "netlink: {error}"),
        }
    }
}

impl std::error::Error for NetlinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Malformed> for NetlinkError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl From<io::Error> for NetlinkError {
    fn from(error: io::Error) -> Self {
        // The socket's own limit; nothing else makes it stop waiting.
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Io(io::ErrorKind::TimedOut.into()),
            _ => Self::Io(error),
        }
    }
}

/// What an error message, an acknowledgement (an error of number 0) or the end of a list says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    errno: i32,
    text: String,
}

/// Flags of such a message: the request is not repeated in it; attributes follow.
const CAPPED: u16 = 0x100;
const HAS_ATTRIBUTES: u16 = 0x200;
/// The attribute with the kernel's words.
const TEXT: u16 = 1;
const REQUEST_HEADER: usize = 16;

impl Verdict {
    /// Of an error or an acknowledgement, which name the request.
    pub(super) fn of_error(message: &Message<'_>) -> Result<Self, Malformed> {
        let short = Malformed("an error is shorter than its header");
        let (errno, rest) = message.payload.split_first_chunk().ok_or(short)?;
        let request = rest.first_chunk::<4>().ok_or(short)?;
        let repeated = if message.flags & CAPPED == 0 {
            u32::from_ne_bytes(*request) as usize
        } else {
            REQUEST_HEADER
        };
        let attributes = rest.get(repeated.max(REQUEST_HEADER)..).unwrap_or_default();
        Self::read(*errno, message.flags, attributes)
    }

    /// Of the end of a list.
    pub(super) fn of_done(message: &Message<'_>) -> Result<Self, Malformed> {
        match message.payload.split_first_chunk() {
            Some((errno, attributes)) => Self::read(*errno, message.flags, attributes),
            None => Ok(Self::default()),
        }
    }

    fn read(errno: [u8; 4], flags: u16, attributes: &[u8]) -> Result<Self, Malformed> {
        let mut verdict = Self {
            errno: i32::from_ne_bytes(errno).saturating_neg().max(0),
            text: String::new(),
        };
        if flags & HAS_ATTRIBUTES != 0 {
            for attribute in Attributes::new(attributes) {
                if let (TEXT, value) = attribute? {
                    verdict.text = text(value);
                }
            }
        }
        Ok(verdict)
    }

    pub(super) fn into_result(self, doing: &dyn fmt::Display) -> Result<(), NetlinkError> {
        let doing = || doing.to_string();
        Err(match self.errno {
            0 => return Ok(()),
            libc::EEXIST => NetlinkError::Exists { doing: doing() },
            // Rules, routes, addresses and devices each have their own.
            libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV => {
                NetlinkError::Missing { doing: doing() }
            }
            libc::EPERM => NetlinkError::NoPrivilege { doing: doing() },
            errno => NetlinkError::Kernel {
                errno,
                text: self.text,
                doing: doing(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::push_attribute;
    use super::*;

    fn error(errno: i32, flags: u16, repeated: usize, words: &str) -> NetlinkError {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend(((REQUEST_HEADER + repeated) as u32).to_ne_bytes());
        payload.resize(payload.len() + 12, 0);
        if flags & CAPPED == 0 {
            payload.resize(payload.len() + repeated, 0);
        }
        push_attribute(&mut payload, TEXT, words.as_bytes());
        let message = Message {
            kind: 2,
            flags,
            sequence: 1,
            payload: &payload,
        };
        let verdict = Verdict::of_error(&message).unwrap();
        verdict.into_result(&"setting it").unwrap_err()
    }

    #[test]
    fn the_words_of_the_kernel_are_found_behind_the_request() {
        for (flags, words) in [
            (CAPPED | HAS_ATTRIBUTES, "Invalid prefix\0"),
            (HAS_ATTRIBUTES, "Invalid prefix"),
        ] {
            let NetlinkError::Kernel { errno, text, doing } = error(22, flags, 28, words) else {
                panic!("a refusal");
            };
            assert_eq!((errno, &*text, &*doing), (22, "Invalid prefix", "setting it"));
        }
        let NetlinkError::Kernel { text, .. } = error(22, CAPPED, 0, "not asked for") else {
            panic!("a refusal");
        };
        assert_eq!(text, "");
    }

    #[test]
    fn errors_that_callers_act_on_have_names() {
        assert!(matches!(
            error(libc::EEXIST, 0, 0, ""),
            NetlinkError::Exists { .. }
        ));
        for errno in [libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV] {
            assert!(matches!(error(errno, 0, 0, ""), NetlinkError::Missing { .. }));
        }
        let denied = error(libc::EPERM, 0, 0, "");
        assert!(
            denied
                .to_string()
                .starts_with("setting it: this needs the capability CAP_NET_ADMIN")
        );
    }
}
