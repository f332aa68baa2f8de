//! The names of paths, and how they stand. All transitions stand here.
//!
//! ```text
//!            proved               chosen
//! Probing ──────────▶ Validated ──────────▶ Active ◀─┐
//!    │                    │  spared      spared │ ▲   │
//!    │                    └──────▶ Standby ◀───┘ │   │ chosen
//!    │                              │ ▲ │ chosen │   │
//!    │                    suspected │ │ └────────┘   │
//!    │                              ▼ │ answered     │
//!    │       Active, Validated ──▶ Suspect ──────────┘
//!    │                              │
//!    └────────── given up ──────────┴──▶ Abandoned ── 3 PTO ──▶ gone
//! ```
//! One path is chosen: the connection's data go there, even while it is suspect and no other is better.
#![forbid(unsafe_code)]

/// Names a path of a connection. No id comes twice in a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PathId(pub(crate) u32);

impl PathId {
    /// The path a connection begins on.
    pub const FIRST: Self = Self(0);

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// How a path stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PathState {
    /// Its address is being asked for a proof (RFC 9000 §8.2).
    Probing,
    /// It answered; nothing was said about its use yet.
    Validated,
    /// The connection's data go there.
    Active,
    /// It works, and waits for its turn.
    Standby,
    /// It was silent when it should have spoken, or the network changed.
    Suspect,
    /// It is used no more.
    Abandoned,
}

/// What happened to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Its address answered.
    Proved,
    /// Data go there from now on.
    Chosen,
    /// Data go elsewhere.
    Spared,
    /// It may be dead.
    Suspected,
    /// It is not.
    Answered,
    /// It is given up.
    GivenUp,
}

/// Why a path changed its state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PathReason {
    /// It was opened.
    Opened,
    /// Its address proved itself.
    Proved,
    /// The application chose so.
    Application,
    /// The peer sends elsewhere, or said so.
    Peer,
    /// The network may be another one.
    NetworkChanged,
    /// Acknowledgements did not come although other paths are there.
    AckSilence,
    /// A probe timeout passed.
    ProbeTimeout,
    /// It answered again.
    Answered,
    /// The path in use is suspect, and this one is not.
    Failover,
    /// Another path took over.
    Replaced,
    /// No answer to any challenge.
    Unproved,
    /// Nothing came for three probe timeouts.
    Silence,
    /// It leads to the peer without a detour, and takes data.
    Direct,
    /// It takes small packets and loses large ones.
    Starved,
    /// This machine has the address no more at which it began.
    AddressLost,
    /// The system has it begin at another address than before.
    AddressChanged,
}

impl PathReason {
    /// A stable name, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Proved => "proved",
            Self::Application => "application",
            Self::Peer => "peer",
            Self::NetworkChanged => "network_changed",
            Self::AckSilence => "ack_silence",
            Self::ProbeTimeout => "probe_timeout",
            Self::Answered => "answered",
            Self::Failover => "failover",
            Self::Replaced => "replaced",
            Self::Unproved => "unproved",
            Self::Silence => "silence",
            Self::Direct => "direct",
            Self::Starved => "starved",
            Self::AddressLost => "address_lost",
            Self::AddressChanged => "address_changed",
        }
    }
}

impl PathState {
    /// A stable name, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::Validated => "validated",
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Suspect => "suspect",
            Self::Abandoned => "abandoned",
        }
    }

    /// The state after `step`; `None` when it changes nothing.
    pub(crate) fn after(self, step: Step) -> Option<Self> {
        match (self, step) {
            (Self::Probing, Step::Proved) => Some(Self::Validated),
            (Self::Validated | Self::Standby | Self::Suspect, Step::Chosen) => Some(Self::Active),
            (Self::Active | Self::Validated, Step::Spared) | (Self::Suspect, Step::Answered) => {
                Some(Self::Standby)
            }
            (Self::Active | Self::Validated | Self::Standby, Step::Suspected) => Some(Self::Suspect),
            (
                Self::Probing | Self::Validated | Self::Active | Self::Standby | Self::Suspect,
                Step::GivenUp,
            ) => Some(Self::Abandoned),
            _ => None,
        }
    }

    /// Whether its address is proved and it is not given up.
    pub(crate) const fn is_usable(self) -> bool {
        matches!(
            self,
            Self::Validated | Self::Active | Self::Standby | Self::Suspect
        )
    }

    /// Whether it may take over.
    pub(crate) const fn is_ready(self) -> bool {
        matches!(self, Self::Validated | Self::Standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [PathState; 6] = [
        PathState::Probing,
        PathState::Validated,
        PathState::Active,
        PathState::Standby,
        PathState::Suspect,
        PathState::Abandoned,
    ];

    #[test]
    fn nothing_is_used_without_proof_and_nothing_comes_back() {
        let steps = [
            Step::Proved,
            Step::Chosen,
            Step::Spared,
            Step::Suspected,
            Step::Answered,
            Step::GivenUp,
        ];
        for step in steps {
            assert_eq!(PathState::Abandoned.after(step), None, "{step:?}");
            let next = PathState::Probing.after(step);
            assert!(next.is_none_or(|next| next == PathState::Validated || next == PathState::Abandoned));
            for state in STATES {
                assert_ne!(
                    state.after(step),
                    Some(state),
                    "{state:?} {step:?} tells a change that is none"
                );
            }
        }
    }

    #[test]
    fn a_suspect_that_answers_waits_until_it_is_chosen_again() {
        let path = PathState::Active.after(Step::Suspected).unwrap();
        assert_eq!(path.after(Step::Suspected), None);
        let path = path.after(Step::Answered).unwrap();
        assert_eq!(path, PathState::Standby);
        assert_eq!(path.after(Step::Chosen), Some(PathState::Active));
    }
}
