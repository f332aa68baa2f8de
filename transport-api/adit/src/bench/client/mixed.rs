//! `--workload mixed`: somebody waits for an echo while bulk fills the link and datagrams go at a steady pace.

use std::{cell::RefCell, rc::Rc, time::Duration};

use hdrhistogram::Histogram;
use transport_api::{Class, Connection, local::Handle, now};

use super::{
    Bench, DEFAULT_DATAGRAM,
    echo::Echo,
    shown,
    transfer::{drain, fill},
};
use crate::{
    bench::{
        crew::Crew,
        datagrams::Pace,
        protocol::{self, Received},
        report::{Figures, latency},
    },
    exit::{Code, Context, Outcome},
};

/// How long the echo has the link to itself before.
const UNLOADED: Duration = Duration::from_secs(1);

/// What one connection did.
struct Share {
    received: Received,
    sent: u64,
    unloaded: Histogram<u64>,
    loaded: Histogram<u64>,
    datagrams: Histogram<u64>,
}

impl Bench {
    pub(super) async fn mixed(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let (connections, opening) = self.connect_all(at).await?;
        let mut crew = Crew::new(at);
        for connection in &connections {
            let (bench, connection, inner) = (Rc::clone(self), connection.clone(), at.clone());
            crew.start(async move { bench.mix(&connection, &inner).await })
                .or_fail(Code::Failed, "event loop")?;
        }
        let shares = crew.all().await.or_fail(Code::Failed, "mixed")?;
        let mut figures = self.figures(&connections, opening).await;
        let (mut sent, mut delivered) = (0, 0);
        let (mut unloaded, mut loaded, mut datagrams) = (latency(), latency(), latency());
        for share in shares {
            figures.received.bytes += share.received.bytes;
            figures.received.micros = figures.received.micros.max(share.received.micros);
            sent += share.sent;
            delivered += share.received.datagrams;
            for (all, one) in [
                (&mut unloaded, share.unloaded),
                (&mut loaded, share.loaded),
                (&mut datagrams, share.datagrams),
            ] {
                all.add(one).or_fail(Code::Failed, "latencies")?;
            }
        }
        figures.datagrams_sent = Some(sent);
        figures.datagrams_delivered = Some(delivered);
        figures.latency = Some(loaded);
        figures.unloaded_latency = Some(unloaded);
        figures.datagram_latency = Some(datagrams);
        Ok(figures)
    }

    /// One connection's part: the echo alone, then everything.
    async fn mix(&self, connection: &Connection, at: &Handle) -> Result<Share, String> {
        let request = self.request();
        let streams = self.options.streams;
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&request.encode()).await.map_err(shown)?;
        let (ping, pong) = connection.open_bi().await.map_err(shown)?;
        ping.set_class(Class::Interactive);
        let mut echo = Echo::new(ping, pong, request.size as usize);
        let unloaded = echo.until(now().instant + UNLOADED.min(request.run_for)).await?;
        // The load begins here, also where the server sends it.
        ask.write_all(&[1]).await.map_err(shown)?;
        let until = now().instant + request.run_for;
        let mut bulk = Crew::new(at);
        let (one, inner) = (connection.clone(), at.clone());
        bulk.start(async move {
            if request.reverse {
                return drain(&one, streams, until).await;
            }
            fill(&one, streams, until, &inner).await?;
            Ok(Received::default())
        })
        .map_err(shown)?;
        let times = Rc::new(RefCell::new(latency()));
        let pace = Pace::new(connection, DEFAULT_DATAGRAM);
        at.spawn(pace.clone().listen(Rc::clone(&times))).map_err(shown)?;
        let mut paced = Crew::new(at);
        let inner = at.clone();
        paced
            .start(async move { Ok::<_, String>(pace.send(until, &inner).await) })
            .map_err(shown)?;
        let loaded = echo.until(until).await?;
        echo.finish()?;
        let drained: Received = bulk.all().await?.pop().unwrap_or_default();
        let sent = paced.all().await?.into_iter().sum();
        let _ = ask.finish();
        let answer = protocol::read_exact(&mut answer).await.map_err(shown)?;
        let mut received = answer.map(Received::decode).ok_or("the server ended early")?;
        if request.reverse {
            (received.bytes, received.micros) = (drained.bytes, drained.micros);
        }
        let datagrams = times.borrow().clone();
        Ok(Share {
            received,
            sent,
            unloaded,
            loaded,
            datagrams,
        })
    }
}
