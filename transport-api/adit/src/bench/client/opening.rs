//! Opening connections, and holding them.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use transport_api::{ConnectError, ConnectOptions, Connection, SuiteChoice, local::Handle, now};

use super::{Bench, silence};
use crate::{
    bench::{protocol::APP, report::Figures},
    cli::Cipher,
    exit::{Code, Context, Failure, Outcome},
    measure::Usage,
};

/// Connections opened at the same time while many are being opened.
const OPENING_AT_ONCE: usize = 64;

impl Bench {
    pub(super) fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.bundle.clone(), APP);
        options.server = Some(self.server);
        options.suite = match self.options.cipher {
            Cipher::Auto => SuiteChoice::Auto,
            Cipher::Chacha20 => SuiteChoice::ChaCha20Poly1305,
            Cipher::Aes256 => SuiteChoice::Aes256Gcm,
        };
        options
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        self.endpoint.connect(self.connect_options()).await
    }

    /// Opens all connections, a bounded number at a time.
    pub(super) async fn connect_all(self: &Rc<Self>, at: &Handle) -> Outcome<(Vec<Connection>, Duration)> {
        let want = self.options.connections as usize;
        let begin = now().instant;
        let opened = Rc::new(RefCell::new((Vec::new(), None::<ConnectError>, 0)));
        let mut started = 0;
        while opened.borrow().0.len() < want {
            if let Some(error) = opened.borrow_mut().1.take() {
                return Err(unreachable_server(&error, self.server));
            }
            while started < want && opened.borrow().2 < OPENING_AT_ONCE {
                let (bench, opened) = (Rc::clone(self), Rc::clone(&opened));
                opened.borrow_mut().2 += 1;
                started += 1;
                let open = async move {
                    let result = bench.connect().await;
                    let mut opened = opened.borrow_mut();
                    opened.2 -= 1;
                    match result {
                        Ok(connection) => opened.0.push(connection),
                        Err(error) => opened.1 = Some(error),
                    }
                };
                at.spawn(open).or_fail(Code::Failed, "event loop")?;
            }
            at.sleep(Duration::from_millis(1)).await;
        }
        let connections = std::mem::take(&mut opened.borrow_mut().0);
        Ok((connections, now().instant - begin))
    }

    pub(super) async fn idle(self: &Rc<Self>, at: &Handle) -> Outcome<Figures> {
        let before = Usage::now().rss_bytes;
        let (connections, opening) = self.connect_all(at).await?;
        at.sleep(Duration::from_secs_f64(self.options.seconds)).await;
        let mut figures = self.figures(&connections, opening).await;
        figures.failed = Some(
            connections
                .iter()
                .filter(|connection| connection.close_reason().is_some())
                .count() as u64,
        );
        let grown = Usage::now().rss_bytes.saturating_sub(before);
        figures.rss_per_connection = grown.checked_div(connections.len() as u64);
        Ok(figures)
    }
}

fn unreachable_server(error: &ConnectError, server: SocketAddr) -> Failure {
    match error {
        error if crate::connect::is_silence(error) => Failure {
            code: Code::Unreachable,
            message: silence(server),
        },
        other => Failure {
            code: Code::Auth,
            message: format!("{server}: {other}"),
        },
    }
}
