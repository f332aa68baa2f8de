//! `--workload bulk` and `--workload datagrams`: payload one way.

use std::{rc::Rc, time::Instant};

use transport_api::{Class, Connection, local::Handle, now};

use super::{Bench, shown};
use crate::{
    bench::{
        CHUNK,
        crew::Crew,
        datagrams::{self, Counter},
        protocol::{self, Received},
        report::Figures,
    },
    cli::Workload,
    exit::{Code, Context, Outcome},
};

/// What one connection did.
#[derive(Default)]
struct Share {
    received: Received,
    sent: Option<u64>,
}

impl Bench {
    pub(super) async fn transfer(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let (connections, opening) = self.connect_all(at).await?;
        let mut crew = Crew::new(at);
        for connection in &connections {
            let (bench, connection, inner) = (Rc::clone(self), connection.clone(), at.clone());
            crew.start(async move { bench.share(&connection, &inner).await })
                .or_fail(Code::Failed, "event loop")?;
        }
        let shares = crew.all().await.or_fail(Code::Failed, "transfer")?;
        let mut figures = self.figures(&connections, opening).await;
        for share in shares {
            figures.received.bytes += share.received.bytes;
            figures.received.micros = figures.received.micros.max(share.received.micros);
            if self.options.workload == Workload::Datagrams {
                *figures.datagrams_sent.get_or_insert(0) += share.sent.unwrap_or(0);
                *figures.datagrams_delivered.get_or_insert(0) += share.received.datagrams;
            }
        }
        Ok(figures)
    }

    /// One connection's part of a transfer.
    async fn share(&self, connection: &Connection, at: &Handle) -> Result<Share, String> {
        let request = self.request();
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&request.encode()).await.map_err(shown)?;
        let until = now().instant + request.run_for;
        let streams = self.options.streams;
        let mut share = Share::default();
        match (request.workload, request.reverse) {
            (Workload::Bulk, false) => fill(connection, streams, until, at).await?,
            (Workload::Bulk, true) => share.received = drain(connection, streams, until).await?,
            (_, false) => share.sent = Some(datagrams::send(connection, request.size as usize, until).await),
            (_, true) => {
                let counter = Counter::default();
                at.spawn(counter.clone().count(connection.clone()))
                    .map_err(shown)?;
                let sent = protocol::read_exact(&mut answer)
                    .await
                    .map_err(shown)?
                    .map(Received::decode);
                share.sent = Some(sent.ok_or("the server ended early")?.datagrams);
                share.received = counter.settled(at).await;
            }
        }
        // A server that has sent all reads no more.
        if !request.reverse {
            // One that has counted all may say so first; what is amiss shows in its answer.
            let _ = ask.finish();
            let received = protocol::read_exact(&mut answer).await.map_err(shown)?;
            share.received = received.map(Received::decode).ok_or("the server ended early")?;
        }
        Ok(share)
    }
}

/// Writes to `streams` streams until `until`.
pub(super) async fn fill(
    connection: &Connection,
    streams: u32,
    until: Instant,
    at: &Handle,
) -> Result<(), String> {
    let mut crew = Crew::new(at);
    for _ in 0..streams {
        let mut stream = connection.open_uni().await.map_err(shown)?;
        stream.set_class(Class::Bulk);
        crew.start(async move {
            let data = vec![0x5a; CHUNK];
            while now().instant < until && stream.write_all(&data).await.is_ok() {}
            // A connection that ended shows itself when the answer is read.
            let _ = stream.finish();
            Ok(())
        })
        .map_err(shown)?;
    }
    crew.all().await.map(|_: Vec<()>| ())
}

/// Reads the server's `streams` streams until they end, or until `until`.
pub(super) async fn drain(connection: &Connection, streams: u32, until: Instant) -> Result<Received, String> {
    let mut open = Vec::new();
    for _ in 0..streams {
        open.push(connection.accept_uni().await.map_err(shown)?);
    }
    let mut buffer = vec![0; CHUNK];
    let mut received = Received::default();
    let begin = now().instant;
    // Streams are read in turn: each holds at most its window, so none is starved for long.
    while !open.is_empty() && now().instant < until {
        let mut still = Vec::with_capacity(open.len());
        for mut stream in open {
            if let Some(read) = stream.read(&mut buffer).await.map_err(shown)? {
                received.bytes += read as u64;
                still.push(stream);
            }
        }
        open = still;
    }
    received.micros = (now().instant - begin).as_micros() as u64;
    Ok(received)
}
