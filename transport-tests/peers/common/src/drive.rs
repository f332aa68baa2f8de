//! The workloads, written once for all peers with an asynchronous interface. A peer says how it connects, writes and
//! reads; everything here is compiled for each, so nothing stands between.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    CHUNK, QUIET, Result,
    figures::{Figures, RECEIVED_LEN, Received},
    options::{Options, Workload},
    purpose,
};

/// Opens connections.
pub trait Dialer: Clone + Send + Sync + 'static {
    type Link: Link;
    fn connect(&self) -> impl Future<Output = Result<Self::Link>> + Send;
}

/// A connection.
pub trait Link: Send + Sync + 'static {
    type Output: Output;
    type Input: Input;
    /// Opens a stream of both directions.
    fn open(&self) -> impl Future<Output = Result<(Self::Output, Self::Input)>> + Send;
    /// Waits for room and sends `datagram` as often as it fits without waiting, within reason; answers how often.
    fn send_datagrams(&self, datagram: &Bytes) -> impl Future<Output = Result<u64>> + Send;
    /// Waits for datagrams and takes all that are there: how many, and their bytes.
    fn take_datagrams(&self) -> impl Future<Output = Result<(u64, u64)>> + Send;
    fn close(&self);
}

/// The sending half of a stream.
pub trait Output: Send + 'static {
    fn write(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;
    fn finish(&mut self) -> Result<()>;
}

/// The receiving half of a stream.
pub trait Input: Send + 'static {
    /// What comes next in order; nothing at the end.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
    /// Reads what is there by the cheapest way, only to count it; nothing at the end.
    fn count(&mut self) -> impl Future<Output = Result<Option<u64>>> + Send;
}

/// The server's part of a connection, after its stream was accepted.
pub async fn serve<L: Link>(link: &L, mut output: L::Output, mut input: L::Input) -> Result<()> {
    let Some(mut first) = input.read().await? else {
        return Ok(());
    };
    let asked = first.split_to(1);
    let received = match asked[0] {
        purpose::BULK => {
            let mut received = Received::default();
            received.add(first.len() as u64);
            while let Some(bytes) = input.count().await? {
                received.add(bytes);
            }
            received
        }
        purpose::DATAGRAMS => count_datagrams(link, &mut input).await?,
        _ => {
            let mut next = Some(first);
            while let Some(data) = next {
                if !data.is_empty() {
                    output.write(data).await?;
                }
                next = input.read().await?;
            }
            return output.finish();
        }
    };
    output.write(Bytes::copy_from_slice(&received.encode())).await?;
    output.finish()
}

async fn count_datagrams<L: Link>(link: &L, input: &mut L::Input) -> Result<Received> {
    let mut received = Received::default();
    let stopped = async {
        while input.read().await?.is_some() {}
        tokio::time::sleep(QUIET).await;
        Ok(())
    };
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            taken = link.take_datagrams() => {
                let (datagrams, bytes) = taken?;
                received.add_datagrams(datagrams, bytes);
            }
            end = &mut stopped => return end.map(|()| received),
        }
    }
}

/// The client: one workload, then the JSON line.
pub async fn measure<D: Dialer>(dialer: &D, options: &Options) -> Result<()> {
    let mut figures = Figures::new();
    match options.workload {
        Workload::Bulk => bulk(&dialer.connect().await?, options, &mut figures).await?,
        Workload::Datagrams => datagrams(&dialer.connect().await?, options, &mut figures).await?,
        Workload::Echo => echo(&dialer.connect().await?, options, &mut figures).await?,
        Workload::Handshakes => handshakes(dialer, options, &mut figures).await?,
        Workload::Idle => idle(dialer, options, &mut figures).await?,
    }
    figures.print(options);
    Ok(())
}

async fn bulk<L: Link>(link: &L, options: &Options, figures: &mut Figures) -> Result<()> {
    let (mut output, mut input) = link.open().await?;
    output.write(Bytes::from_static(&[purpose::BULK])).await?;
    let chunk = Bytes::from(vec![0x5a; CHUNK]);
    let until = Instant::now() + options.run_for();
    while Instant::now() < until {
        output.write(chunk.clone()).await?;
    }
    output.finish()?;
    figures.counted(&answer(&mut input).await?)?;
    link.close();
    Ok(())
}

async fn datagrams<L: Link>(link: &L, options: &Options, figures: &mut Figures) -> Result<()> {
    let (mut output, mut input) = link.open().await?;
    output.write(Bytes::from_static(&[purpose::DATAGRAMS])).await?;
    // Until the path's MTU is known, a peer may drop what is larger than it believes to fit.
    tokio::time::sleep(QUIET).await;
    let datagram = Bytes::from(vec![0x5a; options.size()]);
    let until = Instant::now() + options.run_for();
    let mut sent = 0;
    while Instant::now() < until {
        sent += link.send_datagrams(&datagram).await?;
    }
    figures.datagrams_sent = Some(sent);
    output.finish()?;
    figures.counted(&answer(&mut input).await?)?;
    link.close();
    Ok(())
}

async fn answer<I: Input>(input: &mut I) -> Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(RECEIVED_LEN);
    while let Some(data) = input.read().await? {
        answer.extend_from_slice(&data);
    }
    Ok(answer)
}

async fn echo<L: Link>(link: &L, options: &Options, figures: &mut Figures) -> Result<()> {
    let (mut output, mut input) = link.open().await?;
    output.write(Bytes::from_static(&[purpose::ECHO])).await?;
    let ping = Bytes::from(vec![0x5a; options.size()]);
    let until = Instant::now() + options.run_for();
    while Instant::now() < until {
        let begin = Instant::now();
        output.write(ping.clone()).await?;
        let mut missing = ping.len();
        while missing > 0 {
            let data = input.read().await?.ok_or("the echo ended early")?;
            missing -= data.len();
        }
        figures.latencies.push(begin.elapsed().as_nanos() as u64);
    }
    link.close();
    Ok(())
}

async fn handshakes<D: Dialer>(dialer: &D, options: &Options, figures: &mut Figures) -> Result<()> {
    let begin = Instant::now();
    let until = begin + options.run_for();
    let tally = Arc::new(Mutex::new((Vec::new(), 0)));
    let mut tasks = Vec::new();
    for _ in 0..options.connections {
        let (dialer, tally) = (dialer.clone(), Arc::clone(&tally));
        tasks.push(tokio::spawn(async move {
            while Instant::now() < until {
                let result = handshake(&dialer).await;
                let Ok(mut tally) = tally.lock() else { return };
                match result {
                    Ok(took) => tally.0.push(took),
                    Err(_) => tally.1 += 1,
                }
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    let (latencies, failed) = tally
        .lock()
        .map(|mut all| std::mem::take(&mut *all))
        .unwrap_or_default();
    figures.shook_hands(latencies, failed, begin.elapsed());
    Ok(())
}

/// Opens, has one byte echoed, closes; the nanoseconds until the connection stood.
async fn handshake<D: Dialer>(dialer: &D) -> Result<u64> {
    let begin = Instant::now();
    let link = dialer.connect().await?;
    let took = begin.elapsed();
    let (mut output, mut input) = link.open().await?;
    output.write(Bytes::from_static(&[purpose::ECHO, 1])).await?;
    output.finish()?;
    input.read().await?.ok_or("the echo is missing")?;
    link.close();
    Ok(took.as_nanos() as u64)
}

async fn idle<D: Dialer>(dialer: &D, options: &Options, figures: &mut Figures) -> Result<()> {
    let begin = Instant::now();
    let mut links = Vec::new();
    let mut latencies = Vec::new();
    for _ in 0..options.connections {
        let opening = Instant::now();
        links.push(dialer.connect().await?);
        latencies.push(opening.elapsed().as_nanos() as u64);
    }
    figures.shook_hands(latencies, 0, begin.elapsed());
    tokio::time::sleep(options.run_for()).await;
    Ok(())
}
