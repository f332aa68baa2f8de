//! What holds for every type that holds a secret: no `Debug`, no `Display`, no copies, no `==` that stops at the first
//! difference; and nobody looks into a secret to compare it.

use std::{
    fmt::{Debug, Display},
    fs,
    path::Path,
};

use subtle::ConstantTimeEq;
use transport_crypto::{
    CidMasks, ClientEstablished, ClientIdentity, ClientTicket, CookieKeys, EarlyOpen, EarlySeal,
    EnvelopeKeys, Exporter, Grant, Initiator, Offered, OpenKeys, RelayIdentity, RelayStatics, Responder,
    Resumption, SealKeys, Secret, SeededEntropy, Session, SessionSecrets, TicketContent, TicketKeys,
};
use zeroize::ZeroizeOnDrop;

/// Does not compile if a type has the trait: then `_` could be either.
macro_rules! assert_lacks {
    ($what:path: $($type:ty),+ $(,)?) => {$({
        trait Ambiguous<Which> {
            fn check() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Has;
        impl<T: ?Sized + $what> Ambiguous<Has> for T {}
        <$type as Ambiguous<_>>::check();
    })+};
}

/// Every public type with a secret in it but `Secret` itself.
macro_rules! assert_holders_lack {
    ($what:path) => {
        assert_lacks!(
            $what: CidMasks, ClientEstablished, ClientTicket, CookieKeys, EarlyOpen, EarlySeal, EnvelopeKeys, Exporter,
            Initiator, Offered, OpenKeys, RelayIdentity, Responder, Resumption, SealKeys, SeededEntropy, Session,
            SessionSecrets, TicketContent, TicketKeys
        )
    };
}

#[test]
fn secrets_are_not_printed_copied_or_compared() {
    assert_holders_lack!(Debug);
    assert_holders_lack!(Display);
    assert_holders_lack!(Clone);
    assert_holders_lack!(PartialEq);
    // These three share one copy, or are what a configuration names many times.
    assert_lacks!(Debug: Secret<32>, RelayStatics, ClientIdentity, Grant);
    assert_lacks!(Display: Secret<32>, RelayStatics, ClientIdentity, Grant);
    assert_lacks!(PartialEq: RelayStatics, ClientIdentity, Grant);
    assert_lacks!(Copy: Secret<32>, RelayStatics, ClientIdentity, Grant);
    assert_lacks!(Clone: Secret<32>);
}

#[test]
fn secrets_are_erased_and_compared_in_constant_time() {
    fn erased<T: ZeroizeOnDrop>() {}
    fn compared<T: ConstantTimeEq>() {}
    erased::<Secret<12>>();
    erased::<Secret<32>>();
    erased::<Secret<64>>();
    erased::<Secret<96>>();
    erased::<Grant>();
    // Its `==` is this one (`secret.rs`).
    compared::<Secret<32>>();
}

/// `a.expose() == b.expose()` would stop at the first difference.
#[test]
fn no_secret_is_exposed_to_be_compared() {
    let mut seen = 0;
    let mut rooms = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(room) = rooms.pop() {
        for entry in fs::read_dir(room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            // Tests may compare as they like: nobody measures them.
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            if path.ends_with("tests.rs") || path.ends_with("known_answers.rs") {
                continue;
            }
            for (number, line) in product.lines().enumerate() {
                let compares = line.contains("==") || line.contains("!=");
                assert!(
                    !(line.contains("expose") && compares),
                    "{}:{}: compare with `ct_eq`",
                    path.display(),
                    number + 1
                );
                seen += usize::from(line.contains("expose()"));
            }
        }
    }
    assert!(seen > 20, "the scan sees the places it is about: {seen}");
}
