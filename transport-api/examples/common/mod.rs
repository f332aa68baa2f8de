//! A relay for the examples.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, Endpoint, EndpointAddress, EndpointConfig, OsEntropy, RelayIdentity,
    RelayStatics, ServerOptions,
};

/// Any port of this machine.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A relay makes its keys once, and signs a bundle that clients get by any way they trust. It takes so many bytes of early data.
pub(crate) fn relay(app: &[u8], early_bytes: u32) -> Result<(Endpoint, Bundle), Box<dyn Error>> {
    let identity = RelayIdentity::generate(&mut OsEntropy)?;
    let statics = RelayStatics::generate(&mut OsEntropy)?;
    let mut options = ServerOptions::open(identity.relay_id(), statics.clone(), 1, app);
    options.tickets.early_bytes = early_bytes;
    let endpoint = Endpoint::bind(EndpointConfig::server(loopback(), options))?;
    let (address, now) = (endpoint.local_addr(), transport_api::now().unix_ms / 1000);
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 86_400,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(address.ip()),
            port: address.port(),
            cover: 0,
        }],
    };
    let bundle = Bundle::parse(&identity.sign_bundle(&draft, &statics)?)?;
    Ok((endpoint, bundle))
}
