//! BBR against its draft, and against a bottleneck.

mod appendix_paths;
mod appendix_search;
mod hand;
mod items;
mod items_model;
mod items_modes;
mod link;
mod marks;
mod paths;
mod peers;
mod targets;
mod world;
