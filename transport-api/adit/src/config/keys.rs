//! The keys of relay.toml by name: set by the environment, and told apart from mistakes.

use crate::exit::{Code, Context, Outcome, fail};

/// Every key with the shape of its value, as the environment may set it.
const KEYS: &[(&str, &str, Shape)] = &[
    ("listen", "udp", Shape::List),
    ("listen", "workers", Shape::Number),
    ("listen", "busy_poll_us", Shape::Number),
    ("identity", "key", Shape::Text),
    ("identity", "bundle", Shape::Text),
    ("identity", "rotate", Shape::Truth),
    ("access", "mode", Shape::Text),
    ("access", "clients", Shape::List),
    ("access", "revoked", Shape::List),
    ("access", "tokens", Shape::List),
    ("access", "users", Shape::List),
    ("access", "issuers", Shape::List),
    ("drain", "successor", Shape::Text),
    ("targets", "allow", Shape::List),
    ("targets", "deny", Shape::List),
    ("limits", "sessions", Shape::Number),
    ("limits", "tunnels_per_session", Shape::Number),
    ("limits", "mbit_per_session", Shape::Number),
    ("limits", "tenants", Shape::Text),
    ("bind", "enabled", Shape::Truth),
    ("bind", "public", Shape::List),
    ("bind", "max_contexts", Shape::Number),
    ("transport", "cc", Shape::Text),
    ("transport", "fixed_mbit", Shape::Number),
    ("tun", "enabled", Shape::Truth),
    ("tun", "pool", Shape::List),
    ("tun", "name", Shape::Text),
    ("tun", "routes", Shape::List),
    ("tun", "between_clients", Shape::Truth),
    ("tun", "nat", Shape::Truth),
    ("metrics", "listen", Shape::Text),
    ("status", "socket", Shape::Text),
];

#[derive(Clone, Copy)]
enum Shape {
    Text,
    List,
    Number,
    Truth,
}

/// The table with what the environment sets; nothing when it sets nothing.
pub(super) fn overlay(
    mut table: toml::Table,
    environment: impl Fn(&str) -> Option<String>,
) -> Outcome<Option<toml::Table>> {
    let mut changed = false;
    for (section, key, shape) in KEYS {
        let name = format!("ADIT_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = environment(&name) else { continue };
        let value = match shape {
            Shape::Text => toml::Value::String(text),
            Shape::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.into())).collect())
            }
            Shape::Number => {
                toml::Value::Integer(text.parse().or_fail(Code::Config, format!("{name}={text}"))?)
            }
            Shape::Truth => {
                toml::Value::Boolean(text.parse().or_fail(Code::Config, format!("{name}={text}"))?)
            }
        };
        let section = table
            .entry(*section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert((*key).to_string(), value);
            changed = true;
        }
    }
    Ok(changed.then_some(table))
}

/// File, line, column, what is wrong, and the nearest known key.
pub(super) fn explain<T>(shown: &str, text: &str, error: &toml::de::Error) -> Outcome<T> {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message();
    let hint = unknown_key(message)
        .and_then(nearest)
        .map(|key| format!("; did you mean `{key}`?"));
    fail(
        Code::Config,
        format!("{shown}:{line}:{column}: {message}{}", hint.unwrap_or_default()),
    )
}

fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn nearest(unknown: &str) -> Option<&'static str> {
    let known = KEYS.iter().flat_map(|(section, key, _)| [*section, *key]);
    let near = known
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key))
        .min()?;
    (near.0 <= 3).then_some(near.1)
}
