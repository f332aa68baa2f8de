//! CONNECT-UDP bind: one request whose packets go to and come from many peers (draft-ietf-masque-connect-udp-listen).
//!
//! The rules are in `masque::bind`. Here are what both ends do with a stream (`stream`, `desk`, `sender`) and the client's handle
//! (`client`), with the peers it finds busy (`busy`).

mod busy;
mod client;
mod desk;
mod sender;
mod stream;
#[cfg(test)]
mod tests;

pub use client::{BindOptions, BoundUdp};
pub(crate) use desk::Desk;
pub use sender::{BindSendError, BindSender};
pub(crate) use stream::{BindEvent, BindStream};
