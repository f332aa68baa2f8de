//! Bytes between a local TCP connection and a tunnel, both ways, each with its own end.

use std::{cell::Cell, net::Shutdown, rc::Rc};

use transport_api::{
    local::{Handle, TcpStream},
    tunnel::TcpTunnel,
};

/// Bytes moved at once.
const CHUNK: usize = 64 * 1024;

/// Carries until both directions have ended; an error ends both.
pub(crate) async fn carry(at: &Handle, local: TcpStream, tunnel: TcpTunnel) {
    let (mut up, mut down) = tunnel.split();
    let reader = local.clone();
    let broken = Rc::new(Cell::new(false));
    let flag = Rc::clone(&broken);
    let upward = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => {
                    up.finish();
                    break false;
                }
                Ok(read) => {
                    let Some(data) = buffer.get(..read) else { break true };
                    if up.write_all(data).await.is_err() {
                        break true;
                    }
                }
                Err(_) => {
                    up.reset();
                    break true;
                }
            }
        }
        .then(|| {
            flag.set(true);
            // Wakes the other direction, which then ends too.
            let _ = reader.shutdown(Shutdown::Both);
        });
    };
    if at.spawn(upward).is_err() {
        return;
    }
    let mut buffer = vec![0; CHUNK];
    while !broken.get() {
        match down.read(&mut buffer).await {
            Ok(Some(read)) => {
                let Some(data) = buffer.get(..read) else { break };
                if local.write_all(data).await.is_err() {
                    let _ = local.shutdown(Shutdown::Both);
                    return;
                }
            }
            Ok(None) => {
                // The local program may still have something to say.
                let _ = local.shutdown(Shutdown::Write);
                return;
            }
            Err(_) => break,
        }
    }
    let _ = local.shutdown(Shutdown::Both);
}
