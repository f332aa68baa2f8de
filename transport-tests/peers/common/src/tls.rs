//! TLS by rustls and aws-lc: one cipher, one key exchange, a certificate that is verified.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            cipher_suite::{
                TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
            },
            default_provider,
            kx_group::{X25519, X25519MLKEM768},
        },
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

use crate::{
    ALPN, Result,
    options::{Cipher, Options},
};

fn provider(options: &Options) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    // QUIC seals its first packets with AES-128-GCM, so it stays in the list; the first one is taken.
    provider.cipher_suites = match options.cipher {
        Cipher::Chacha => vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256],
        Cipher::Aes256 => vec![TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256],
        Cipher::Aes | Cipher::None => vec![TLS13_AES_128_GCM_SHA256],
    };
    provider.kx_groups = vec![if options.hybrid { X25519MLKEM768 } else { X25519 }];
    Arc::new(provider)
}

/// Makes aws-lc gather its entropy, which takes a good part of a second, before anything is measured.
pub fn warm_up() -> Result<()> {
    let random = default_provider().secure_random;
    random.fill(&mut [0; 32]).map_err(|_| "randomness")?;
    Ok(())
}

/// The server's side.
pub fn server(options: &Options) -> Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(options.certificate())?;
    let mut config = ServerConfig::builder_with_provider(provider(options))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(options.key())?)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The client's side. Nothing is resumed: handshakes are measured in full.
pub fn client(options: &Options) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(options.certificate())?)?;
    let mut config = ClientConfig::builder_with_provider(provider(options))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
