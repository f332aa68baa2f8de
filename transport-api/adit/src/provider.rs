//! Which cryptographic primitives this build has, and which of them an endpoint takes.

use transport_api::{DEFAULT_PROVIDER, Provider};

use crate::{
    cli,
    exit::{Code, Outcome, fail},
};

#[cfg(feature = "aws-lc")]
const AWS_LC: Option<&dyn Provider> = Some(&transport_crypto_aws_lc::AwsLc);
#[cfg(not(feature = "aws-lc"))]
const AWS_LC: Option<&dyn Provider> = None;

/// The fastest of this build.
pub(crate) fn best() -> &'static dyn Provider {
    AWS_LC.unwrap_or(DEFAULT_PROVIDER)
}

/// The one asked for, if this build has it.
pub(crate) fn chosen(choice: cli::Primitives) -> Outcome<&'static dyn Provider> {
    match (choice, AWS_LC) {
        (cli::Primitives::Auto, _) => Ok(best()),
        (cli::Primitives::Rust, _) => Ok(DEFAULT_PROVIDER),
        (cli::Primitives::AwsLc, Some(provider)) => Ok(provider),
        (cli::Primitives::AwsLc, None) => fail(
            Code::Usage,
            "--provider aws-lc: this build is without it; build with --features aws-lc",
        ),
    }
}
