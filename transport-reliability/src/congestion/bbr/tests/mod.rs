//! BBR against its draft, and against a bottleneck.

mod link;
