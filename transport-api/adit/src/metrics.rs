//! The Prometheus listener: one small HTTP server on a thread of its own.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::exit::{Code, Context, Outcome};

/// A scraper that stalls is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest request head.
const MAX_HEAD: usize = 8192;

/// Serves `GET /metrics` with what `render` says, until the process ends.
pub(crate) fn serve(
    address: SocketAddr,
    render: Arc<dyn Fn() -> String + Send + Sync>,
) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind(address).or_fail(Code::Failed, format!("[metrics] listen {address}"))?;
    let bound = listener.local_addr().or_fail(Code::Failed, "[metrics] listen")?;
    let work = move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &*render) {
                tracing::debug!(%error, "a metrics request");
            }
        }
    };
    thread::Builder::new()
        .name("metrics".into())
        .spawn(work)
        .or_fail(Code::Failed, "metrics thread")?;
    Ok(bound)
}

fn answer(mut stream: TcpStream, render: &dyn Fn() -> String) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, kind, body) = match read_path(&mut stream)?.as_deref() {
        Some("/metrics") => (
            "200 OK",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            render(),
        ),
        Some(_) => (
            "404 Not Found",
            "text/plain",
            "the metrics are at /metrics\n".into(),
        ),
        None => ("400 Bad Request", "text/plain", "wanted GET /metrics\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The path of a GET; nothing for anything else.
fn read_path(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
                return Ok(request.path.map(str::to_string));
            }
            Ok(httparse::Status::Partial) if read > 0 && head.len() < MAX_HEAD => {}
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        let address = serve(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            Arc::new(|| "adit_up 1\n".into()),
        )
        .unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn metrics_are_served_and_nothing_else() {
        assert!(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("adit_up 1\n"));
        assert!(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask("\0\0\r\n\r\n").starts_with("HTTP/1.1 400"));
    }
}
