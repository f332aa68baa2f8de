//! `--workload echo`: ping-pong on one stream of each connection.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use transport_api::{Connection, RecvStream, SendStream, local::Handle, now};

use super::{Bench, shown};
use crate::{
    bench::{
        crew::Crew,
        protocol::Received,
        report::{Figures, latency},
    },
    exit::{Code, Context, Outcome},
};

impl Bench {
    pub(super) async fn echo(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let (connections, opening) = self.connect_all(at).await?;
        let mut crew = Crew::new(at);
        let begin = now().instant;
        for connection in &connections {
            let (bench, connection) = (Rc::clone(self), connection.clone());
            crew.start(async move { bench.ping_pong(&connection).await })
                .or_fail(Code::Failed, "event loop")?;
        }
        let all = crew.all().await.or_fail(Code::Failed, "echo")?;
        let mut figures = self.figures(&connections, opening).await;
        figures.received = Received {
            bytes: all.iter().map(Histogram::len).sum::<u64>() * u64::from(self.request().size),
            datagrams: 0,
            micros: (now().instant - begin).as_micros() as u64,
        };
        let times = figures.latency.insert(latency());
        for one in all {
            times.add(one).or_fail(Code::Failed, "latencies")?;
        }
        Ok(figures)
    }

    async fn ping_pong(&self, connection: &Connection) -> Result<Histogram<u64>, String> {
        let request = self.request();
        let until = now().instant + request.run_for;
        let (mut ask, answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&request.encode()).await.map_err(shown)?;
        let mut echo = Echo::new(ask, answer, request.size as usize);
        let times = echo.until(until).await?;
        echo.finish()?;
        Ok(times)
    }
}

/// A stream on which everything comes back.
pub(super) struct Echo {
    ask: SendStream,
    answer: RecvStream,
    ping: Vec<u8>,
    pong: Vec<u8>,
}

impl Echo {
    pub(super) fn new(ask: SendStream, answer: RecvStream, size: usize) -> Self {
        Self {
            ask,
            answer,
            ping: vec![0x5a; size],
            pong: vec![0; size],
        }
    }

    /// One ping after another; how long each took.
    pub(super) async fn until(&mut self, until: Instant) -> Result<Histogram<u64>, String> {
        let mut times = latency();
        while now().instant < until {
            times.saturating_record(self.ping().await?.as_nanos() as u64);
        }
        Ok(times)
    }

    async fn ping(&mut self) -> Result<Duration, String> {
        let begin = now().instant;
        self.ask.write_all(&self.ping).await.map_err(shown)?;
        let mut have = 0;
        while have < self.pong.len() {
            have += self
                .answer
                .read(&mut self.pong[have..])
                .await
                .map_err(shown)?
                .ok_or("the echo ended early")?;
        }
        Ok(now().instant - begin)
    }

    pub(super) fn finish(mut self) -> Result<(), String> {
        self.ask.finish().map_err(shown)
    }
}
