//! A host, or a queue before it, that passes only the first packet of each batch: transfers go on, one packet at a time.

use std::time::Duration;

use transport_tests::pair::{Options, Pair, Way};

#[test]
fn a_host_that_spoils_its_batches_is_noticed() {
    let mut pair = Pair::connected(Options::new(5));
    let mut last = None;
    pair.hook(move |passing| {
        // What leaves at the same moment as another left in its batch; probes and answers of other kinds come alone.
        if passing.way == Way::Up {
            let follows = last.replace(passing.at) == Some(passing.at);
            if follows && passing.bytes.len() > 1000 {
                passing.lose();
            }
        }
    });
    assert!(
        pair.transfer(Way::Up, 2_000_000, Duration::from_mins(1)),
        "it stalls"
    );
    assert_eq!(pair.client.connection().stats().batches_stopped, 1);
    assert_eq!(pair.server.connection().stats().batches_stopped, 0);
}

#[test]
fn ordinary_loss_changes_nothing() {
    let mut pair = Pair::connected(Options::new(6));
    pair.hook(transport_tests::pair::faults(6, 0.2, 0.1, 0.05));
    assert!(pair.transfer(Way::Up, 1_000_000, Duration::from_mins(2)));
    assert_eq!(pair.client.connection().stats().batches_stopped, 0);
}
