//! Faults planted in the harness's own target and client, to see that the gates notice.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// The target keeps memory of every piece it receives.
    LeakMemory,
    /// The target keeps a socket of every connection.
    LeakDescriptors,
    /// The target changes a byte now and then.
    Corrupt,
    /// The target swaps two messages of an echo now and then.
    Reorder,
    /// The target stops reading uploads in their middle.
    Stall,
    /// The client does not change its keys when it should.
    NoRekey,
}

impl Plant {
    /// The gate that must fail.
    pub fn gate(self) -> &'static str {
        match self {
            Self::LeakMemory => "memory slope",
            Self::LeakDescriptors => "descriptor slope",
            Self::Corrupt => "integrity",
            Self::Reorder => "order",
            Self::Stall => "delivery",
            Self::NoRekey => "rekey",
        }
    }
}
