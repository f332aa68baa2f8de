//! What a UDP socket gets here.

use std::net::SocketAddr;

use transport_api::{Caps, Endpoint, EndpointConfig};

use super::{Finding, Verdict};

/// An endpoint as a client has it, on loopback, for a moment.
pub(super) fn socket() -> Vec<Finding> {
    let config = EndpointConfig::client(SocketAddr::from(([127, 0, 0, 1], 0)));
    let asked = config.socket_buffer;
    match Endpoint::bind(config) {
        Ok(endpoint) => {
            let caps = endpoint.socket_caps();
            let mut findings = vec![Finding::well("UDP socket", "works")];
            findings.extend(abilities(&caps));
            findings.extend(buffers(&caps, asked));
            findings
        }
        Err(error) => vec![Finding {
            verdict: if error.kind() == std::io::ErrorKind::PermissionDenied {
                Verdict::Forbidden
            } else {
                Verdict::Missing
            },
            detail: "nothing works without one; look at the sandbox or container this runs in".into(),
            ..Finding::well("UDP socket", error.to_string())
        }],
    }
}

fn abilities(caps: &Caps) -> [Finding; 3] {
    let yes = |has: bool| if has { "yes" } else { "no" };
    [
        Finding::when(
            caps.gso,
            "UDP GSO",
            yes(caps.gso),
            "every datagram is a call of its own; Linux 4.18 and later cut batches",
        ),
        Finding::when(
            caps.gro,
            "UDP GRO",
            yes(caps.gro),
            "datagrams arrive one by one; Linux 5.0 and later join them",
        ),
        Finding::when(
            caps.ecn && caps.dont_fragment && caps.local_address,
            "UDP ancillary data",
            format!(
                "ECN {}, don't fragment {}, local address {}",
                yes(caps.ecn),
                yes(caps.dont_fragment),
                yes(caps.local_address)
            ),
            "congestion marks, the path's MTU or moves between addresses are not seen; not Linux, or an emulation of it",
        ),
    ]
}

fn buffers(caps: &Caps, asked: usize) -> [Finding; 2] {
    let one = |name, granted: usize, limit: &str| {
        Finding::when(
            granted >= asked,
            name,
            format!("{} KiB of {} KiB", granted.min(asked) >> 10, asked >> 10),
            format!("bursts are lost at high rates: sysctl -w {limit}={asked}, or run with CAP_NET_ADMIN"),
        )
    };
    [
        one("receive buffer", caps.recv_buffer, "net.core.rmem_max"),
        one("send buffer", caps.send_buffer, "net.core.wmem_max"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_smaller_than_asked_for_names_the_limit_to_raise() {
        let caps = Caps {
            recv_buffer: 425_984,
            send_buffer: 8 << 20,
            ..Caps::default()
        };
        let [recv, send] = buffers(&caps, 4 << 20);
        assert_eq!((recv.ok(), recv.value.as_str()), (false, "416 KiB of 4096 KiB"));
        assert!(recv.detail.contains("sysctl -w net.core.rmem_max=4194304"));
        assert_eq!(
            (send.ok(), send.value.as_str(), send.detail.as_str()),
            (true, "4096 KiB of 4096 KiB", "")
        );
    }

    #[test]
    fn what_a_socket_cannot_do_is_a_note() {
        let none = abilities(&Caps::default());
        assert!(none.iter().all(|finding| finding.verdict == Verdict::Lacking));
        assert!(none[2].value.contains("ECN no"));
    }
}
