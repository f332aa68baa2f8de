use std::cell::Cell;

use arbitrary::{Arbitrary, Unstructured};

use super::*;

impl<'a> Arbitrary<'a> for Route {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let v6 = u.arbitrary()?;
        let of = |v6, u: &mut Unstructured<'a>| -> arbitrary::Result<IpAddr> {
            Ok(if v6 {
                IpAddr::from(u.arbitrary::<[u8; 16]>()?)
            } else {
                IpAddr::from(u.arbitrary::<[u8; 4]>()?)
            })
        };
        let kinds = [
            RouteKind::Unicast,
            RouteKind::Unreachable,
            RouteKind::Blackhole,
            RouteKind::Throw,
        ];
        let kind = *u.choose(&kinds)?;
        let gateway_v6 = u.arbitrary()?;
        Ok(Self {
            destination: (of(v6, u)?, u.int_in_range(0..=if v6 { 128 } else { 32 })?),
            device: Option::arbitrary(u)?.filter(|_| kind == RouteKind::Unicast),
            gateway: if u.arbitrary()? {
                Some(of(gateway_v6, u)?)
            } else {
                None
            },
            source: if u.arbitrary()? { Some(of(v6, u)?) } else { None },
            table: u.arbitrary()?,
            metric: u.arbitrary()?,
            mtu: u.arbitrary()?,
            kind,
            protocol: u.arbitrary()?,
        })
    }
}

impl<'a> Arbitrary<'a> for Rule {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self {
            v6: u.arbitrary()?,
            priority: u.arbitrary()?,
            mark: u.arbitrary()?,
            invert: u.arbitrary()?,
            table: u.arbitrary()?,
            suppress_prefix_length: Option::arbitrary(u)?.filter(|&length| length != u32::MAX),
        })
    }
}

/// The one message of a request, as if the kernel had sent it.
fn with_message<T>(request: Request, read: impl FnOnce(&Message<'_>) -> T) -> T {
    let bytes = request.finish(1);
    let mut messages = Messages::new(&bytes);
    let message = messages.next().unwrap().unwrap();
    assert!(messages.next().is_none());
    read(&message)
}

#[test]
fn routes_read_back_as_they_were_written() {
    arbtest::arbtest(|u| {
        let route: Route = u.arbitrary()?;
        assert_eq!(route.flaw(), None);
        let read = with_message(route.add(), |message| Route::read(message, route.table));
        assert_eq!(read, Ok(Some(route.clone())));
        let other = with_message(route.add(), |message| Route::read(message, route.table ^ 1));
        assert_eq!(other, Ok(None));
        Ok(())
    });
}

#[test]
fn rules_read_back_as_they_were_written() {
    arbtest::arbtest(|u| {
        let rule: Rule = u.arbitrary()?;
        let read = with_message(rule.add(), |message| Rule::read(message, rule.v6));
        assert_eq!(read, Ok(Some(rule.clone())));
        let other = with_message(rule.add(), |message| Rule::read(message, !rule.v6));
        assert_eq!(other, Ok(None));
        Ok(())
    });
}

#[test]
fn addresses_read_back_as_they_were_written() {
    for (ip, length) in [("10.0.0.1", 24), ("fd00::1", 64)] {
        let address = Address {
            no_detection: length == 64,
            no_prefix_route: true,
            ..Address::new((ip.parse().unwrap(), length))
        };
        let read = with_message(address.add(7), |message| Address::read(message, 7));
        assert_eq!(read, Ok(Some(address)));
        let other = with_message(address.add(7), |message| Address::read(message, 8));
        assert_eq!(other, Ok(None));
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    arbtest::arbtest(|u| {
        let table: u32 = u.int_in_range(0..=3)?;
        // Half of them with a header that can be, so that what is inside gets read.
        let bytes = if u.arbitrary()? {
            let kind = *u.choose(&[
                ERROR,
                DONE,
                link::NEW_LINK,
                link::NEW_ADDRESS,
                route::NEW_ROUTE,
                rule::NEW_RULE,
            ])?;
            let flags = u.arbitrary()?;
            Request::new(kind, flags).fixed(u.bytes(u.len())?).finish(1)
        } else {
            u.bytes(u.len())?.to_vec()
        };
        let mut read = |message: &Message<'_>| {
            let _ = Link::read(message);
            let _ = Address::read(message, table);
            let _ = Route::read(message, table);
            let _ = Rule::read(message, message.flags & 1 == 0);
            Ok(())
        };
        let _ = Answer::to(1).read(&bytes, &mut read);
        Ok(())
    });
}

#[test]
fn an_answer_ends_with_its_verdict_and_skips_what_is_of_another() {
    let mut bytes = Request::new(rule::NEW_RULE, 0).fixed(&[0; 12]).finish(4);
    bytes.extend(
        Request::new(rule::NEW_RULE, INTERRUPTED)
            .fixed(&[0; 12])
            .finish(5),
    );
    bytes.extend(Request::new(DONE, 0).fixed(&[0; 4]).finish(4));
    let seen = Cell::new(0);
    let mut take = |_: &Message<'_>| {
        seen.set(seen.get() + 1);
        Ok(())
    };
    let mut answer = Answer::to(5);
    assert_eq!(answer.read(&bytes, &mut take), Ok(None));
    assert!(!answer.whole);
    let end = Request::new(DONE, 0).fixed(&(-1i32).to_ne_bytes()).finish(5);
    let verdict = answer.read(&end, &mut take).unwrap().unwrap();
    assert_eq!(seen.get(), 1);
    let error = verdict.into_result(&"listing").unwrap_err();
    assert!(matches!(error, NetlinkError::NoPrivilege { .. }), "{error}");
}

#[test]
fn an_answer_is_read_to_its_end_after_a_failure() {
    let item = Request::new(rule::NEW_RULE, 0).finish(1);
    let end = Request::new(DONE, 0).fixed(&[0; 4]).finish(1);
    let seen = Cell::new(0);
    let mut take = |message: &Message<'_>| {
        seen.set(seen.get() + 1);
        Rule::read(message, false).map(drop).map_err(NetlinkError::from)
    };
    let mut answer = Answer::to(1);
    let verdict = answer.read(&[&*item, &item, &end].concat(), &mut take).unwrap();
    assert_eq!(verdict, Some(Verdict::default()));
    assert!(matches!(answer.failure, Some(NetlinkError::Malformed(_))));
    assert_eq!(seen.get(), 1);
}

#[test]
fn what_the_kernel_would_misread_is_refused() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut route = Route::to((ip("10.0.0.0"), 33));
    assert!(route.flaw().is_some());
    route.destination.1 = 8;
    assert_eq!(route.flaw(), None);
    route.source = Some(ip("fd00::1"));
    assert!(route.flaw().is_some());
}

#[test]
fn routes_and_rules_are_written_as_the_tool_ip_writes_them() {
    let route = Route {
        gateway: "10.0.0.1".parse().ok(),
        device: Some(3),
        metric: Some(5),
        mtu: Some(1280),
        kind: RouteKind::Unreachable,
        ..Route::to(("10.1.0.0".parse().unwrap(), 16))
    };
    assert_eq!(
        route.to_string(),
        "unreachable 10.1.0.0/16 via 10.0.0.1 dev #3 metric 5 mtu 1280 table 254"
    );
    let rule = Rule {
        v6: true,
        priority: 9,
        mark: Some((0x51, u32::MAX)),
        invert: true,
        table: 51,
        suppress_prefix_length: Some(0),
    };
    assert_eq!(
        rule.to_string(),
        "IPv6 9: not from all fwmark 0x51/0xffffffff lookup 51 suppress_prefixlength 0"
    );
}
