use super::*;
use crate::masque::ip::ScopeTarget;

fn template(text: &str) -> Template {
    Template::parse(text).expect(text)
}

fn target(host: &str, port: u16) -> Target {
    Target::new(host, port).expect(host)
}

#[test]
fn connect_ip_paths_have_networks_and_wildcards() {
    let template = Template::well_known_ip("proxy.example.org").expect("template");
    let scope = |target, protocol| IpScope { target, protocol };
    let network = |text: &str| ScopeTarget::Network(text.parse().expect(text));
    for (path, expected) in [
        ("/.well-known/masque/ip/%2A/%2A/", scope(ScopeTarget::Any, None)),
        (
            "/.well-known/masque/ip/192.0.2.42/6/",
            scope(network("192.0.2.42"), Some(6)),
        ),
        (
            "/.well-known/masque/ip/2001%3Adb8%3A%3A%2F32/%2A/",
            scope(network("2001:db8::/32"), None),
        ),
        (
            "/.well-known/masque/ip/target.example.com/17/",
            scope(ScopeTarget::Name("target.example.com".into()), Some(17)),
        ),
    ] {
        assert_eq!(template.expand_ip(&expected), path);
        assert_eq!(template.matches_ip(path), Some(Ok(expected)));
    }
    let any = Some(Ok(IpScope::default()));
    assert_eq!(template.matches_ip("/.well-known/masque/ip/*/*/"), any);
    for bad in [
        "192.0.2.42%2F24/6",
        "192.0.2.42/256",
        "192.0.2.42/+6",
        "/6",
        "%2A%2A/6",
        "%2A/x",
        "[::1]/6",
    ] {
        let path = format!("/.well-known/masque/ip/{bad}/");
        assert_eq!(template.matches_ip(&path), Some(Err(BadScope)), "{bad}");
    }
    assert_eq!(template.matches_ip("/.well-known/masque/udp/%2A/%2A/"), None);
    let bare = Template::parse_ip("https://proxy.example.org/vpn").expect("no variables");
    assert_eq!(
        (bare.matches_ip("/vpn"), bare.expand_ip(&IpScope::default())),
        (any, "/vpn".into())
    );
    assert!(Template::parse_ip("https://p/{target}/{target}").is_err());
}

#[test]
fn expansion_and_matching_are_inverse() {
    let forms = [
        (
            "https://example.org/.well-known/masque/udp/{target_host}/{target_port}/",
            "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/",
        ),
        (
            "https://proxy.example.org:4443/masque?h={target_host}&p={target_port}",
            "/masque?h=2001%3Adb8%3A%3A42&p=443",
        ),
        (
            "https://proxy.example.org:4443/masque{?target_host,target_port}",
            "/masque?target_host=2001%3Adb8%3A%3A42&target_port=443",
        ),
        (
            "https://p/m?v=1{&target_host,target_port}",
            "/m?v=1&target_host=2001%3Adb8%3A%3A42&target_port=443",
        ),
        ("https://p/{target_host,target_port}", "/2001%3Adb8%3A%3A42,443"),
        // What follows a value may look like its end.
        (
            "https://p/{target_host}2/{target_port}443",
            "/2001%3Adb8%3A%3A422/443443",
        ),
        (
            "https://p/{target_port}3%{target_host}2",
            "/4433%2001%3Adb8%3A%3A422",
        ),
        (
            "https://p/{target_host}%3A{target_port}",
            "/2001%3Adb8%3A%3A42%3A443",
        ),
    ];
    for (text, path) in forms {
        let template = template(text);
        let target = target("2001:db8::42", 443);
        assert_eq!(template.expand(&target), path, "{text}");
        assert_eq!(template.matches(path), Some(Ok(target)), "{text}");
    }
}

#[test]
fn what_cannot_be_told_apart_again_is_refused() {
    for text in [
        "https://p/{target_host}{target_port}",
        "https://p/{target_port}0{target_host}",
    ] {
        assert_eq!(Template::parse(text), Err(TemplateError::BadExpression), "{text}");
    }
}

#[test]
fn the_default_is_the_well_known_one() {
    assert_eq!(Template::well_known("relay"), Ok(Template::relay()));
}

#[test]
fn query_order_does_not_matter() {
    let template = template("https://p/m?h={target_host}&p={target_port}");
    assert_eq!(
        template.matches("/m?x=y&p=53&h=example.org"),
        Some(Ok(target("example.org", 53)))
    );
    assert_eq!(template.matches("/m?p=53"), None);
    assert_eq!(template.matches("/other?h=a&p=1"), None);
}

#[test]
fn two_pairs_of_one_name_are_refused() {
    for text in [
        "h://e/?={target_host}&={target_port}",
        "https://p/m?v=1&v=2{&target_host,target_port}",
    ] {
        assert_eq!(Template::parse(text), Err(TemplateError::BadExpression), "{text}");
    }
}

#[test]
fn bad_targets_are_told_from_other_paths() {
    let template = Template::well_known("relay.example").expect("default");
    let bad = [
        "%2A/443",
        "a/0",
        "a/70000",
        "/443",
        "%5B%3A%3A1%5D/443",
        "[::1]/443",
        "::1/443",
        "fe80%3A%3A1%25x/1",
        "a%2/1",
        "a%zz/1",
        "%ff/1",
        "a/",
        "a/+1",
    ];
    for bad in bad {
        let path = format!("/.well-known/masque/udp/{bad}/");
        assert_eq!(template.matches(&path), Some(Err(BadTarget)), "{path}");
    }
    for other in [
        "/",
        "/.well-known/masque/udp/a/1",
        "/.well-known/masque/udp/a/1/x",
        "/.well-known/masque/ip/*/*/",
    ] {
        assert_eq!(template.matches(other), None, "{other}");
    }
}

#[test]
fn validation_of_rfc_9298() {
    let error = |text: &str| Template::parse(text).expect_err(text);
    assert_eq!(
        error("/udp/{target_host}/{target_port}/"),
        TemplateError::NotAbsolute
    );
    assert_eq!(
        error("https:///{target_host}/{target_port}/"),
        TemplateError::NotAbsolute
    );
    assert_eq!(
        error("https://p?h={target_host}&p={target_port}"),
        TemplateError::NotAbsolute
    );
    assert_eq!(
        error("https://{target_host}/{target_port}/"),
        TemplateError::BadExpression
    );
    assert_eq!(
        error("https://p/{target_host}/"),
        TemplateError::MissingVariable("target_port")
    );
    assert_eq!(
        error("https://p/{target_port}/"),
        TemplateError::MissingVariable("target_host")
    );
    assert_eq!(
        error("https://p/{target_host}/{target_host}/{target_port}"),
        TemplateError::MissingVariable("target_host")
    );
    assert_eq!(
        error("https://p/{target_host}/{target_port"),
        TemplateError::BadExpression
    );
    assert_eq!(
        error("https://p/ü/{target_host}/{target_port}/"),
        TemplateError::BadCharacter
    );
    assert_eq!(
        error("https://p/{target_host}/{target_port} "),
        TemplateError::BadCharacter
    );
    for operator in ['+', '#', '.', '/', ';'] {
        let text = format!("https://p/{{{operator}target_host}}/{{target_port}}/");
        assert_eq!(error(&text), TemplateError::BadOperator(operator));
    }
    assert_eq!(
        error("https://p/{target_host:3}/{target_port}/"),
        TemplateError::BadOperator(':')
    );
    assert_eq!(
        error("https://p/{target_host}/{target_port}/{x}"),
        TemplateError::UnknownVariable("x".into())
    );
}

#[test]
fn no_path_panics() {
    let templates = [
        Template::well_known("a").expect("ok"),
        template("https://p/m{?target_host,target_port}"),
    ];
    arbtest::arbtest(|u| {
        let path: &str = u.arbitrary()?;
        for template in &templates {
            let _ = template.matches(path);
        }
        let _ = Template::parse(path);
        Ok(())
    });
}

#[test]
fn bind_has_a_target_or_two_wildcards() {
    let forms = [
        (
            "https://p/.well-known/masque/udp/{target_host}/{target_port}/",
            "/.well-known/masque/udp/%2A/%2A/",
        ),
        (
            "https://p/m{?target_host,target_port}",
            "/m?target_host=%2A&target_port=%2A",
        ),
    ];
    for (text, path) in forms {
        let template = template(text);
        assert_eq!(template.expand_bind_any(), path);
        for path in [path.to_owned(), path.replace("%2A", "%2a")] {
            assert_eq!(template.matches_bind(&path), Some(Ok(BindTarget::Any)));
            assert_eq!(template.matches(&path), Some(Err(BadTarget)), "without bind");
        }
        let target = target("192.0.2.1", 443);
        let path = template.expand(&target);
        assert_eq!(template.matches_bind(&path), Some(Ok(BindTarget::Host(target))));
    }
    let template = Template::relay();
    assert_eq!(template.matches_bind("/elsewhere"), None);
    // X21: one wildcard, or one that is not encoded, and all that is no target.
    for bad in [
        "%2A/443",
        "192.0.2.1/%2A",
        "*/*",
        "%2A/*",
        "*/%2A",
        "%2A%2A/%2A",
        "%2A/0",
        "a/0",
        "a/70000",
        "/443",
        "[::1]/1",
        "::1/1",
    ] {
        let path = format!("/.well-known/masque/udp/{bad}/");
        assert_eq!(template.matches_bind(&path), Some(Err(BadTarget)), "{bad}");
    }
}
