//! BBR against its draft, and against a bottleneck.

mod hand;
mod items;
mod items_modes;
mod link;
mod paths;
