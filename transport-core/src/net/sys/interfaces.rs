//! The addresses of this machine, and the interfaces they are on.

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;

use crate::net::meta::Interface;

/// A list of the system's, freed when it is no longer read.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: `getifaddrs` made the list, and nothing points into it any more.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

pub(in crate::net) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut list = List(std::ptr::null_mut());
    // SAFETY: the call writes one pointer to where `list` keeps it.
    if unsafe { libc::getifaddrs(&raw mut list.0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list.0;
    // SAFETY: each entry of the list is valid until it is freed, or null at the end.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let flags = entry.ifa_flags as libc::c_int;
        // SAFETY: the address is null or a valid socket address of the family it names; the name is a C string.
        let (address, index, name) = unsafe {
            let name = CStr::from_ptr(entry.ifa_name);
            (
                address_of(entry.ifa_addr),
                libc::if_nametoindex(entry.ifa_name),
                name,
            )
        };
        if let Some(address) = address {
            found.push(Interface {
                address,
                index,
                name: name.to_string_lossy().into_owned(),
                up: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
                loopback: flags & libc::IFF_LOOPBACK != 0,
            });
        }
    }
    Ok(found)
}

/// # Safety
/// `address` is null, or points to a socket address as long as its family says.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by the contract of this function.
    let family = libc::c_int::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: of this family, so of this type; read without a claim about its alignment.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(v6.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback() {
        let all = interfaces().unwrap();
        let home = all.iter().find(|one| one.address == IpAddr::from([127, 0, 0, 1]));
        assert!(home.is_some_and(|one| one.loopback && one.index > 0), "{all:?}");
    }
}
