//! Which cryptographic primitives this build has, and which of them an endpoint takes.

use std::sync::Once;

use transport_api::{DEFAULT_PROVIDER, Provider};

use crate::{
    cli,
    exit::{Code, Outcome, fail},
};

#[cfg(feature = "aws-lc")]
const AWS_LC: Option<&dyn Provider> = Some(&transport_crypto_aws_lc::AwsLc);
#[cfg(not(feature = "aws-lc"))]
const AWS_LC: Option<&dyn Provider> = None;

/// The fastest of this build. A thread makes it ready meanwhile.
pub(crate) fn best() -> &'static dyn Provider {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        // Without a thread it is never ready, and does a little less.
        drop(
            std::thread::Builder::new()
                .name("randomness".into())
                .spawn(prepare),
        );
    });
    fastest()
}

/// The fastest of this build, as it is.
pub(crate) fn fastest() -> &'static dyn Provider {
    AWS_LC.unwrap_or(DEFAULT_PROVIDER)
}

fn prepare() {
    #[cfg(feature = "aws-lc")]
    transport_crypto_aws_lc::prepare();
}

/// The one asked for, if this build has it, and ready: what it takes to begin is not what is measured.
pub(crate) fn chosen(choice: cli::Primitives) -> Outcome<&'static dyn Provider> {
    if choice != cli::Primitives::Rust {
        prepare();
    }
    match (choice, AWS_LC) {
        (cli::Primitives::Auto, _) => Ok(fastest()),
        (cli::Primitives::Rust, _) => Ok(DEFAULT_PROVIDER),
        (cli::Primitives::AwsLc, Some(provider)) => Ok(provider),
        (cli::Primitives::AwsLc, None) => fail(
            Code::Usage,
            "--provider aws-lc: this build is without it; build with --features aws-lc",
        ),
    }
}
