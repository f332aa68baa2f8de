//! The soak: real relay, real clients, real sockets on loopback, a link that gets worse, for as long as asked.
//!
//! A run measures what the product promises, compares real sockets with the simulator, then carries traffic through the
//! phases of its plan and holds the result against its gates. `docs/soak.md` is the page for people.

pub mod agreement;
pub mod board;
pub mod gate;
pub mod goals;
pub mod histogram;
pub mod page;
pub mod plan;
pub mod plant;
pub mod run;
pub mod shim;
pub mod state;

mod churn;
mod director;
mod member;
mod peer;
mod progress;
mod sample;
mod stage;
mod target;
mod work;

pub use plan::Profile;
pub use plant::Plant;
pub use run::{Options, Outcome, run};
