//! The relay's namespace: `adit relay` itself, and what clients talk to behind it.

use std::{
    future::pending,
    io,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    sync::mpsc::sync_channel,
};

use transport_api::local::{Loop, TcpListener};

use super::stage;
use crate::{
    demo::targets,
    exit::{Code, Context, Outcome, fail},
    output,
};

/// Said once the namespace is there; the cable comes next.
pub(super) const HERE: &str = "the relay's namespace is here";
pub(super) const CHECKSUM_PORT: u16 = 7001;
pub(super) const HTTP_PORT: u16 = 7002;

pub(super) fn run(folder: &Path) -> Outcome {
    output::tell(HERE);
    let mut told = String::new();
    io::stdin().read_line(&mut told).or_fail(Code::Failed, "stdin")?;
    if told.is_empty() {
        return fail(Code::Interrupted, "the demo is gone");
    }
    stage::configure(stage::RELAY)?;
    start_targets()?;
    crate::relay::run(&folder.join("relay.toml"), None, false)
}

/// On a thread of their own, at every address of this namespace.
fn start_targets() -> Outcome {
    let (begun, beginning) = sync_channel(1);
    let serve = move || {
        let work = || -> io::Result<()> {
            let mut main = Loop::new(crate::demo::MAX_TASKS)?;
            let at = main.handle();
            let listen = |port| TcpListener::bind(&at, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
            targets::serve_tcp(&at, listen(CHECKSUM_PORT)?, listen(HTTP_PORT)?)?;
            let _ = begun.send(Ok(()));
            main.run(pending::<()>())
        };
        if let Err(error) = work() {
            let _ = begun.send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("targets".into())
        .spawn(serve)
        .or_fail(Code::Failed, "thread")?;
    let begun = beginning.recv().or_fail(Code::Failed, "targets")?;
    begun.or_fail(Code::Failed, "targets")
}
