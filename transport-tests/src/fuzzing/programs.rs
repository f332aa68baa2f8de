//! Programs of calls on two endpoints over a bad network, drawn from bytes.

use arbitrary::{Arbitrary, Unstructured};

use super::decode_from;
use crate::program::{Call, Setup, World};

/// The calls an input stands for.
pub fn show(data: &[u8]) -> String {
    let (setup, calls) = parse(data);
    format!("{setup:?}\n{calls:#?}")
}

fn parse(data: &[u8]) -> (Option<Setup>, Vec<Call>) {
    let mut u = Unstructured::new(data);
    let setup = Setup::arbitrary(&mut u).ok();
    (setup, decode_from(&mut u))
}

/// Runs a program.
pub fn programs(data: &[u8]) {
    let (Some(setup), calls) = parse(data) else { return };
    setup.run(World::new(&setup), &calls);
}
