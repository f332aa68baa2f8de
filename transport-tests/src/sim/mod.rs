//! A deterministic world: two endpoints of the product, a link with faults, virtual time.
//!
//! One seed decides everything; the same scenario with the same seed gives the same bytes on the wire,
//! which the report proves with a digest.

pub mod app;
pub mod batch;
pub mod clock;
pub mod cross;
pub mod flow;
pub mod link;
pub mod matrix;
pub mod nat;
pub mod node;
pub mod pages;
pub mod peers;
pub mod record;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod setup;
pub mod trace;
pub mod world;

pub use report::Report;
pub use scenario::Scenario;
pub use world::{Options, run, run_recorded};
