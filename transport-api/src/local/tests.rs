use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::*;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("address")
}

#[test]
fn tcp_echo_between_tasks() {
    let mut local = Loop::new(16).expect("loop");
    let handle = local.handle();
    let echoed = local.run(async {
        let listener = TcpListener::bind(&handle, loopback()).expect("bind");
        let addr = listener.local_addr().expect("addr");
        handle
            .spawn(async move {
                let (stream, _) = listener.accept().await.expect("accept");
                let mut buffer = vec![0; 70_000];
                loop {
                    let n = stream.read(&mut buffer).await.expect("read");
                    if n == 0 {
                        break;
                    }
                    stream.write_all(&buffer[..n]).await.expect("write");
                }
            })
            .expect("spawn");
        let stream = TcpStream::connect(&handle, addr).await.expect("connect");
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        let writer = stream.clone();
        let copy = sent.clone();
        handle
            .spawn(async move {
                writer.write_all(&copy).await.expect("write");
                writer.shutdown(std::net::Shutdown::Write).expect("shutdown");
            })
            .expect("spawn");
        let mut got = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            let n = stream.read(&mut buffer).await.expect("read");
            if n == 0 {
                break got == sent;
            }
            got.extend_from_slice(&buffer[..n]);
        }
    });
    assert!(echoed.expect("run"));
}

#[test]
fn refused_connection_is_an_error() {
    let mut local = Loop::new(1).expect("loop");
    let handle = local.handle();
    let port = std::net::TcpListener::bind(loopback())
        .expect("bind")
        .local_addr()
        .expect("addr");
    let error = local
        .run(TcpStream::connect(&handle, port))
        .expect("run")
        .expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn timers_fire_in_order_and_timeouts_cut() {
    let mut local = Loop::new(4).expect("loop");
    let handle = local.handle();
    let order = Rc::new(Mutex::new(Vec::new()));
    for ms in [30u64, 10, 20] {
        let (h, order) = (handle.clone(), Rc::clone(&order));
        let task = async move {
            h.sleep(Duration::from_millis(ms)).await;
            order.lock().expect("lock").push(ms);
        };
        handle.spawn(task).expect("spawn");
    }
    local
        .run(async {
            let never = std::future::pending::<()>();
            assert_eq!(
                handle.timeout(Duration::from_millis(60), never).await,
                Err(Elapsed)
            );
            assert_eq!(handle.timeout(Duration::from_mins(1), async { 7 }).await, Ok(7));
        })
        .expect("run");
    assert_eq!(*order.lock().expect("lock"), [10, 20, 30]);
    assert_eq!(handle.tasks(), 0);
}

#[test]
fn another_thread_wakes_a_sleeping_loop() {
    let mut local = Loop::new(1).expect("loop");
    let slot: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let theirs = Arc::clone(&slot);
    let thread = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(20));
        let mut slot = theirs.lock().expect("lock");
        slot.0 = true;
        slot.1.take().expect("the loop waits").wake();
    });
    local
        .run(std::future::poll_fn(|cx| {
            let mut slot = slot.lock().expect("lock");
            slot.1 = Some(cx.waker().clone());
            if slot.0 { Poll::Ready(()) } else { Poll::Pending }
        }))
        .expect("run");
    thread.join().expect("thread");
}

#[test]
fn tasks_are_bounded_and_dropped_with_the_loop() {
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let local = Loop::new(1).expect("loop");
    let handle = local.handle();
    let dropped = Rc::new(Cell::new(false));
    let flag = Flag(Rc::clone(&dropped));
    let sleeper = handle.clone();
    let task = async move {
        let _flag = flag;
        sleeper.sleep(Duration::from_hours(1)).await;
    };
    handle.spawn(task).expect("room for one");
    assert_eq!(handle.spawn(async {}), Err(LoopFull));
    drop(local);
    assert!(dropped.get());
}
