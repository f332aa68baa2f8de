//! The machine against a small reference model, and two of them against each other.

mod exhaustive;
mod model;
mod random;
mod rules;
