//! What the dear primitives of a relay's part of a handshake cost alone, with either provider:
//! `cargo run --release -p transport-crypto-aws-lc --example primitives`. Their sum is the floor of a handshake.
#![expect(clippy::disallowed_methods, reason = "a stopwatch; nothing depends on it")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use transport_crypto::{
    Secret, Suite,
    provider::{Provider, RustCrypto},
};
use transport_crypto_aws_lc::{AwsLc, prepare};

const ROUNDS: usize = 301;

/// The median: what else runs on the machine moves it least.
fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

/// The name, how often a relay does it for one full anonymous handshake, and what it costs.
fn costs(provider: &dyn Provider) -> Vec<(&'static str, u32, Duration)> {
    let fixed = provider.x25519_key_pair(&Secret::new([1; 32]));
    let other = *provider.x25519_key_pair(&Secret::new([2; 32])).public();
    let relay = provider.kem_key_pair(&Secret::new([3; 64]));
    let client = *provider.kem_key_pair(&Secret::new([4; 64])).public();
    let (ciphertext, _) = provider
        .kem_encapsulate(relay.public(), &Secret::new([5; 32]))
        .expect("a good key");
    let key = Secret::new([6; 32]);
    let mut scalar = 0u8;
    vec![
        (
            "X25519 with a peer's key",
            4,
            median(|| drop(black_box(fixed.agree(&other)))),
        ),
        (
            "X25519 key pair",
            1,
            median(|| {
                scalar = scalar.wrapping_add(1);
                drop(black_box(provider.x25519_key_pair(&Secret::new([scalar; 32]))));
            }),
        ),
        (
            "ML-KEM-768 decapsulation",
            1,
            median(|| drop(black_box(relay.decapsulate(&ciphertext)))),
        ),
        (
            "ML-KEM-768 encapsulation",
            1,
            median(|| drop(black_box(provider.kem_encapsulate(&client, &key)))),
        ),
        (
            "AES-256-GCM key",
            3,
            median(|| drop(black_box(provider.packet_cipher(Suite::Aes256Gcm, &key)))),
        ),
    ]
}

fn main() {
    prepare();
    for provider in [&AwsLc as &dyn Provider, &RustCrypto] {
        let mut sum = Duration::ZERO;
        for (name, times, cost) in costs(provider) {
            sum += cost * times;
            eprintln!("{:<12} {name:<26} {times} x {cost:>9.1?}", provider.name());
        }
        eprintln!("{:<12} together {sum:>26.1?}", provider.name());
    }
}
