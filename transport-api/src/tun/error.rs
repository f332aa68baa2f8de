//! Why there is no device, and what to do about it.

use std::fmt;
use std::io;

/// Why [`Tun::open`](super::Tun::open) gave no device.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunError {
    /// A device of this name exists. It is left alone.
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// No device can have this name.
    BadName {
        /// The name asked for.
        name: String,
    },
    /// The process may not make network devices.
    NoPrivilege,
    /// The system has no TUN devices, or they are not loaded.
    NoTunSupport,
    /// Anything else: what was tried, and what the system said.
    Io(&'static str, io::Error),
}

impl TunError {
    /// From opening `/dev/net/tun`.
    pub(super) fn from_open(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Self::NoPrivilege;
        }
        // No such file, or a file that no driver stands behind.
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoTunSupport,
            _ => Self::Io("opening /dev/net/tun", error),
        }
    }

    /// From making a device with this name.
    pub(super) fn from_create(error: io::Error, name: Option<&str>) -> Self {
        match (error.kind(), name) {
            (io::ErrorKind::PermissionDenied, _) => Self::NoPrivilege,
            (io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists, Some(name)) => Self::NameTaken {
                name: name.to_owned(),
            },
            _ => Self::Io("making a TUN device", error),
        }
    }
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { name } => {
                write!(f, "a network device named {name:?} exists already: choose another name or remove it")
            }
            Self::BadName { name } => write!(
                f,
                "{name:?} cannot be the name of a network device: 1 to 15 bytes, without '/', ':' and spaces, at most one %d"
            ),
            Self::NoPrivilege => f.write_str(
                "making a network device needs the capability CAP_NET_ADMIN and access to /dev/net/tun: run as root or grant them",
            ),
            Self::NoTunSupport => f.write_str(
                "this system has no /dev/net/tun: load the module `tun`, or hand the device into the container",
            ),
            Self::Io(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for TunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_advice() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        let opened = |errno| TunError::from_open(error(errno)).to_string();
        assert!(opened(libc::EACCES).contains("CAP_NET_ADMIN"));
        assert!(opened(libc::ENOENT).contains("module `tun`"));
        assert!(opened(libc::EMFILE).starts_with("opening /dev/net/tun: "));
        let created = |errno, name| TunError::from_create(error(errno), name);
        assert!(matches!(created(libc::EPERM, None), TunError::NoPrivilege));
        assert!(matches!(created(libc::EBUSY, Some("a")), TunError::NameTaken { name } if name == "a"));
        assert!(matches!(created(libc::ENOMEM, Some("a")), TunError::Io(..)));
    }
}
