//! How the paths of a connection stand: moves are told, and a relay that falls silent is asked anew. It may have died and be back
//! without the keys of before, and then it hears nothing but a new handshake.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, time::Duration};

use serde_json::json;
use transport_api::{Connection, PathChange, PathId, PathReason, PathState};

use super::link::Link;

/// So long may every path be suspect before the relay is asked anew beside them: longer than a handover between paths takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows `connection` until it ends; `last` is the one that goes with it, to the relay that is used. `tells`: moves are told.
pub(super) async fn follow(link: Rc<Link>, connection: Connection, last: Connection, tells: bool) {
    let mut used = PathId::FIRST;
    let mut heard = BTreeSet::from([used]);
    let silent = Rc::new(Cell::new(false));
    while let Ok(change) = connection.path_changes().await {
        tracing::info!(
            path = change.path.get(),
            state = change.state.name(),
            reason = change.reason.name(),
            "path"
        );
        match change.state {
            PathState::Active | PathState::Standby | PathState::Validated => heard.insert(change.path),
            PathState::Suspect | PathState::Abandoned | PathState::Probing => heard.remove(&change.path),
        };
        let was_silent = silent.replace(heard.is_empty());
        // Whoever doubts holds the other count.
        if heard.is_empty() && !was_silent && Rc::strong_count(&silent) == 1 {
            let doubt = doubt(Rc::clone(&link), last.clone(), Rc::clone(&silent));
            if let Err(error) = link.at.spawn(doubt) {
                tracing::warn!(%error, "the event loop is full");
            }
        }
        let elsewhere = change.path != used || change.reason == PathReason::AddressChanged;
        if change.state == PathState::Active && elsewhere {
            used = change.path;
            if tells {
                tell_move(&link, &connection, change).await;
            }
        }
    }
}

async fn tell_move(link: &Link, connection: &Connection, change: PathChange) {
    // On the loop that the driver lives on, paths are there only for who waits for them.
    let path = connection
        .current_paths()
        .await
        .into_iter()
        .find(|path| path.id == change.path);
    link.event(
        "migrated",
        json!({
            "path": change.path.get(),
            "reason": change.reason.name(),
            "local": path.and_then(|path| path.route.local.or(path.begins)).map(|local| local.to_string()),
            "rtt_ms": path.map(|path| path.rtt.as_secs_f64() * 1000.0),
            "path_mtu": path.map(|path| path.mtu),
        }),
    );
}

/// Makes another connection beside the one that is silent; whichever is heard first is kept.
async fn doubt(link: Rc<Link>, connection: Connection, silent: Rc<Cell<bool>>) {
    let in_doubt = || silent.get() && connection.close_reason().is_none();
    link.at.sleep(PATIENCE).await;
    while in_doubt() {
        match link.attempt().await {
            Ok(chain) if in_doubt() => link.replace(&connection, chain),
            Ok(chain) => chain.connection().close(0x100, b""),
            Err(error) => tracing::info!(%error, "the relay is silent"),
        }
        link.at.sleep(PATIENCE).await;
    }
}
