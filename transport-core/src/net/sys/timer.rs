//! A timer that a poller can wait for: nanoseconds where `epoll_wait` counts milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A `timerfd` on the monotonic clock. Its descriptor becomes readable when the time armed has passed, and stays so until it
/// is armed again. Register it edge-triggered and it never has to be read.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer at rest.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes two integers and gives a new descriptor or −1.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is valid, new, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Readable `after` from now, once (at least one nanosecond: zero would disarm). Forgets what was armed before.
    pub fn arm(&self, after: Duration) -> io::Result<()> {
        let after = after.max(Duration::from_nanos(1));
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(after.subsec_nanos().cast_signed()),
        };
        let time = libc::itimerspec {
            it_interval: zero,
            it_value: value,
        };
        // SAFETY: `time` is readable for the time of the call; no old value is asked for.
        let result =
            unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &raw const time, std::ptr::null_mut()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable_within(timer: &Timer, millis: i32) -> bool {
        let mut poll = libc::pollfd {
            fd: timer.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid `pollfd`, borrowed for the time of the call.
        unsafe { libc::poll(&raw mut poll, 1, millis) == 1 }
    }

    #[test]
    fn fires_once_and_can_be_armed_again() {
        let timer = Timer::new().unwrap();
        assert!(!readable_within(&timer, 0));
        timer.arm(Duration::from_micros(300)).unwrap();
        assert!(readable_within(&timer, 5000));
        timer.arm(Duration::from_secs(1000)).unwrap();
        assert!(!readable_within(&timer, 1), "arming again forgets what has fired");
        timer.arm(Duration::ZERO).unwrap();
        assert!(readable_within(&timer, 5000));
    }
}
