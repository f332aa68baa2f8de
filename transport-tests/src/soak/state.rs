//! What is kept of a run that is interrupted, so that it can go on: `state.json` in its folder.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    agreement,
    board::{Mark, Sample, Tally},
    goals::Goal,
    plan::Profile,
    plant::Plant,
};

const FILE: &str = "state.json";

/// All that a run knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are keys of the file")]
pub struct State {
    pub profile: Profile,
    pub seed: u64,
    pub commit: String,
    /// Seconds of load wanted, and had.
    pub wanted_s: f64,
    pub elapsed_s: f64,
    /// How often the program was started for it.
    pub parts: u32,
    pub plant: Option<Plant>,
    pub stall_s: f64,
    pub goals: Vec<Goal>,
    pub agreement: Vec<agreement::Line>,
    pub tally: Tally,
    pub samples: Vec<Sample>,
    pub marks: Vec<Mark>,
}

impl State {
    /// A run that has not begun.
    pub fn new(profile: Profile, seed: u64, commit: String) -> Self {
        Self {
            profile,
            seed,
            commit,
            wanted_s: 0.0,
            elapsed_s: 0.0,
            parts: 0,
            plant: None,
            stall_s: 0.0,
            goals: Vec::new(),
            agreement: Vec::new(),
            tally: Tally::default(),
            samples: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Reads the state of the run in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join(FILE))?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Writes it; an interrupted write leaves the old one.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        let fresh = folder.join("state.json.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, folder.join(FILE))
    }
}
