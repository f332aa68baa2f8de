//! The published answers that any provider must give, asked of this one.

#[path = "../../tests/known_answers/mod.rs"]
mod answers;

use answers::CHECKS;
use transport_crypto_aws_lc::AwsLc;

#[test]
fn every_published_answer_that_needs_no_chosen_randomness() {
    for (name, check) in CHECKS {
        // Answers to a chosen `m`, which this provider draws itself; `differential.rs` has the keys it must refuse.
        if *name != "ML-KEM-768 encapsulation" {
            check(&AwsLc);
        }
    }
}
