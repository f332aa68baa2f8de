//! BBR against its draft, and against a bottleneck.

mod appendix_paths;
mod appendix_search;
mod hand;
mod items;
mod marks;
mod items_model;
mod items_modes;
mod link;
mod paths;
mod peers;
mod world;
