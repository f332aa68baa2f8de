//! `--workload handshakes`: open, echo one byte, close.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use transport_api::{ClientTicket, local::Handle, now};

use super::{Bench, shown, silence};
use crate::{
    bench::{
        protocol,
        report::{Figures, latency},
    },
    exit::{Code, Context, Outcome, fail},
};

/// A server gives its tickets with its first packets.
const TICKET_LIMIT: Duration = Duration::from_secs(1);

impl Bench {
    pub(super) async fn handshakes(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let begin = now().instant;
        let until = begin + Duration::from_secs_f64(self.options.seconds);
        let tally = Rc::new(RefCell::new((latency(), 0u64, self.options.connections)));
        let resumed = Rc::new(Cell::new(0));
        for _ in 0..self.options.connections {
            let (bench, tally, resumed) = (Rc::clone(self), Rc::clone(&tally), Rc::clone(&resumed));
            let inner = at.clone();
            let one = async move {
                let mut ticket = None;
                while now().instant < until {
                    // Without a ticket it only makes ready for one that comes back.
                    let measured = ticket.is_some() || !bench.options.resume;
                    let result = bench.handshake(&mut ticket, &inner).await;
                    let (times, failed, _) = &mut *tally.borrow_mut();
                    match result {
                        Ok((took, came_back)) if measured => {
                            times.saturating_record(took.as_nanos() as u64);
                            resumed.set(resumed.get() + u64::from(came_back));
                        }
                        Ok(_) => {}
                        Err(_) => *failed += 1,
                    }
                }
                tally.borrow_mut().2 -= 1;
            };
            at.spawn(one).or_fail(Code::Failed, "event loop")?;
        }
        while tally.borrow().2 > 0 {
            at.sleep(Duration::from_millis(2)).await;
        }
        let seconds = (now().instant - begin).as_secs_f64();
        let mut figures = self.figures(&[], Duration::from_secs(1)).await;
        let (times, failed, _) = &*tally.borrow();
        if times.is_empty() && self.options.resume && *failed == 0 {
            return fail(Code::Failed, "the server gave no tickets, or none in time");
        }
        if times.is_empty() {
            return fail(Code::Unreachable, silence(self.server));
        }
        figures.handshakes = times.len();
        figures.handshakes_per_s = Some(times.len() as f64 / seconds);
        figures.failed = Some(*failed);
        figures.connections = u64::from(self.options.connections);
        figures.resumed = Some(resumed.get());
        figures.latency = Some(times.clone());
        Ok(figures)
    }

    /// Opens, echoes one byte, closes; the time until the connection stood, and whether it came back with `ticket`. With
    /// `--resume` the next ticket is waited for, outside of that time.
    async fn handshake(
        &self,
        ticket: &mut Option<ClientTicket>,
        at: &Handle,
    ) -> Result<(Duration, bool), String> {
        let mut options = self.connect_options();
        options.ticket = ticket.take();
        let begin = now().instant;
        let connection = self.endpoint.connect(options).await.map_err(shown)?;
        let took = now().instant - begin;
        let (mut ask, mut answer) = connection.open_bi().await.map_err(shown)?;
        ask.write_all(&self.request().encode()).await.map_err(shown)?;
        ask.write_all(&[1]).await.map_err(shown)?;
        ask.finish().map_err(shown)?;
        let echoed: Option<[u8; 1]> = protocol::read_exact(&mut answer).await.map_err(shown)?;
        if self.options.resume
            && let Ok(Ok(next)) = at.timeout(TICKET_LIMIT, connection.tickets()).await
        {
            *ticket = Some(next);
        }
        connection.close(0, b"");
        echoed.map_or_else(
            || Err("the echo is missing".into()),
            |_| Ok((took, connection.resumed())),
        )
    }
}
