use super::*;

fn parse(text: &str) -> Outcome<Config> {
    Config::parse(text, "relay.toml", |_| None)
}

#[test]
fn the_template_is_valid_and_says_the_defaults() {
    let config = parse(&template(4433, cli::Access::Open)).unwrap();
    assert_eq!(config.listen.udp, Listen::default().udp);
    assert_eq!(config.listen.workers, Listen::default().workers);
    assert_eq!(config.limits.sessions, Limits::default().sessions);
    assert_eq!(config.metrics.listen, Metrics::default().listen);
    assert!(config.bind.enabled && config.bind.public.is_empty());
    assert_eq!(config.bind.max_contexts, Bind::default().max_contexts);
    assert_eq!((config.identity.rotate, config.status.socket), (true, None));
}

#[test]
fn an_unknown_key_names_line_column_and_a_suggestion() {
    let failure = parse("[limits]\nsesions = 3\n").unwrap_err();
    assert!(
        failure.message.starts_with("relay.toml:2:1: unknown field"),
        "{failure}"
    );
    assert!(failure.message.ends_with("did you mean `sessions`?"), "{failure}");
    assert_eq!(failure.code, Code::Config);
}

#[test]
fn bad_values_name_their_place() {
    for (text, wanted) in [
        ("[listen]\nudp = [\"here\"]\n", "relay.toml:2:"),
        (
            "[access]\nmode = \"closed\"\n",
            "wanted \"open\" or \"allowlist\"",
        ),
        ("[access]\nclients = [\"zz\"]\n", "relay.toml:2:"),
        ("[targets]\nallow = [\"10.0.0.0/99\"]\n", "relay.toml:2:"),
        ("[limits]\nsessions = -1\n", "relay.toml:2:"),
        ("[transport]\ncc = \"reno\"\n", "relay.toml:2:"),
        ("[listen]\nworkers = 65\n", "[listen] workers: at most 64"),
        (
            "[listen]\nbusy_poll_us = 1001\n",
            "[listen] busy_poll_us: at most 1000",
        ),
        ("[bind]\npublic = [\"relay\"]\n", "relay.toml:2:"),
        ("[limits\n", "relay.toml:1:"),
        ("[identity]\nrotate = \"yes\"\n", "relay.toml:2:"),
        ("[access]\nrevoked = [\"zz\"]\n", "relay.toml:2:"),
        ("[access]\ntokens = [\"acme\"]\n", "wanted TENANT:SHA256"),
        ("[access]\nusers = [\"a b:00\"]\n", "relay.toml:2:"),
        ("[drain]\nsucessor = \"x\"\n", "did you mean `successor`?"),
        ("[status]\nsocked = \"\"\n", "did you mean `socket`?"),
    ] {
        let failure = parse(text).unwrap_err();
        assert!(failure.message.contains(wanted), "{text}: {failure}");
        assert_eq!(failure.code, Code::Config);
    }
}

#[test]
fn the_environment_is_stronger_than_the_file() {
    let set = |name: &str| match name {
        "ADIT_LIMITS_SESSIONS" => Some("7".to_string()),
        "ADIT_TARGETS_ALLOW" => Some("10.0.0.0/8, fd00::/8".to_string()),
        _ => None,
    };
    let config = Config::parse("[limits]\nsessions = 3\n", "relay.toml", set).unwrap();
    assert_eq!((config.limits.sessions, config.targets.allow.len()), (7, 2));
}

#[test]
fn what_does_not_exist_is_refused() {
    for (text, word) in [
        ("[tun]\nenabled = true\npool = []\n", "pool is empty"),
        (
            "[tun]\nenabled = true\n[listen]\nudp = [\"0.0.0.0:1\", \"[::]:2\"]\n",
            "one address",
        ),
        ("[tun]\nenabled = true\n[listen]\nworkers = 2\n", "workers = 1"),
        (
            "[tun]\nenabled = true\npool = [\"10.77.0.1/16\"]\n",
            "10.77.0.1/16",
        ),
    ] {
        let failure = parse(text).unwrap_err();
        assert!(
            failure.code == Code::Config && failure.message.contains(word),
            "{failure}"
        );
    }
}
