//! A relay's document for people.

use std::fmt::Write;

use serde_json::Value;

use crate::output;

/// Prints the document as text.
pub(crate) fn print(document: &Value) {
    output::line(render(document).trim_end());
}

fn render(document: &Value) -> String {
    let mut text = String::new();
    head(&mut text, document);
    section(&mut text, "LIMITS", &limits(document));
    section(&mut text, "DROPS", &drops(document));
    let listed = document["sessions"]["list"].as_array().map_or(0, Vec::len);
    let total = document["sessions"]["total"].as_u64().unwrap_or(0);
    let title = match u64::try_from(listed) {
        Ok(listed) if listed < total => format!("SESSIONS ({listed} of {total} shown)"),
        _ => format!("SESSIONS ({total})"),
    };
    section(&mut text, &title, &sessions(document));
    text
}

fn head(text: &mut String, document: &Value) {
    let listen: Vec<&str> = document["listen"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let bundle = &document["bundle"];
    let mut keys = format!(
        "epoch {}, valid for {}",
        shown(&bundle["epoch"]),
        span(&bundle["expires_in_s"])
    );
    if bundle["rotate_in_s"].is_number() {
        let _ = write!(keys, ", next keys in {}", span(&bundle["rotate_in_s"]));
    }
    if bundle["previous"].is_object() {
        let _ = write!(
            keys,
            ", epoch {} still in use",
            shown(&bundle["previous"]["epoch"])
        );
    }
    let tickets = &document["tickets"];
    let lines = [
        ("relay", shown(&document["relay_id"])),
        (
            "running",
            format!(
                "adit {} for {}, process {}",
                shown(&document["version"]),
                span(&document["uptime_s"]),
                shown(&document["pid"])
            ),
        ),
        ("listens", listen.join(", ")),
        (
            "workers",
            format!(
                "{}, {} datagrams handed over between them",
                shown(&document["workers"]),
                shown(&document["received"]["forwarded"])
            ),
        ),
        ("keys", keys),
        (
            "cookies",
            match document["cookie_mode"].as_bool() {
                Some(true) => "on: newcomers must show that they can receive".into(),
                _ => "off".into(),
            },
        ),
        (
            "resumption",
            format!(
                "{} tickets issued, {} sessions resumed, early data {} accepted, {} refused",
                shown(&tickets["issued"]),
                shown(&tickets["resumed"]),
                shown(&tickets["early_accepted"]),
                shown(&tickets["early_rejected"])
            ),
        ),
    ];
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<11} {value}");
    }
}

fn limits(document: &Value) -> Vec<Vec<String>> {
    let rows = document["limits"].as_array().into_iter().flatten();
    rows.map(|row| {
        let limit = match row["limit"].as_u64() {
            Some(limit) => limit.to_string(),
            None => "none".into(),
        };
        vec![shown(&row["name"]), shown(&row["used"]), "of".into(), limit]
    })
    .collect()
}

/// Reasons that never came up are left out.
fn drops(document: &Value) -> Vec<Vec<String>> {
    let rows = document["drops"].as_object().into_iter().flatten();
    rows.filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(reason, count)| vec![reason.clone(), shown(count)])
        .collect()
}

fn sessions(document: &Value) -> Vec<Vec<String>> {
    let list = document["sessions"]["list"].as_array().into_iter().flatten();
    let mut rows: Vec<Vec<String>> = list
        .map(|session| {
            let peer = session["peer"].as_str().unwrap_or("-");
            vec![
                peer.chars().take(16).collect(),
                shown(&session["remote"]),
                span(&session["age_s"]),
                shown(&session["suite"]),
                session["rtt_ms"]
                    .as_f64()
                    .map_or("-".into(), |rtt| format!("{rtt:.1}")),
                shown(&session["mtu"]),
                bytes(&session["sent_bytes"]),
                bytes(&session["received_bytes"]),
                match session["resumed"].as_bool() {
                    Some(true) => "yes".into(),
                    _ => "no".into(),
                },
            ]
        })
        .collect();
    if !rows.is_empty() {
        let names = [
            "peer", "remote", "age", "suite", "rtt ms", "mtu", "sent", "received", "resumed",
        ];
        rows.insert(0, names.map(str::to_string).to_vec());
    }
    rows
}

/// A title and rows in columns as wide as their widest cell.
fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    let _ = writeln!(text, "\n{title}");
    if rows.is_empty() {
        text.push_str("  none\n");
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {cell:<width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Seconds in the two largest units.
fn span(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else {
        return "-".into();
    };
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn bytes(value: &Value) -> String {
    let Some(bytes) = value.as_f64() else {
        return "-".into();
    };
    match bytes {
        ..1e4 => format!("{bytes} B"),
        1e4..1e7 => format!("{:.1} kB", bytes / 1e3),
        1e7..1e10 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_zeros_stay_away() {
        let text = render(&json!({
            "relay_id": "ab", "version": "1", "pid": 7, "uptime_s": 3725, "listen": ["[::]:4433"],
            "bundle": { "epoch": 2, "expires_in_s": 90061, "rotate_in_s": 59, "previous": { "epoch": 1 } },
            "cookie_mode": true,
            "tickets": { "issued": 4, "resumed": 1, "early_accepted": 0, "early_rejected": 0 },
            "limits": [{ "name": "sessions", "limit": 100, "used": 3 }, { "name": "rate", "limit": null, "used": 0 }],
            "drops": { "unknown": 12, "length": 0 },
            "sessions": { "total": 9, "list": [
                { "peer": "anonymous", "remote": "127.0.0.1:1", "age_s": 5.2, "suite": "aes-256-gcm", "rtt_ms": 0.25,
                  "mtu": 1472, "sent_bytes": 12_345, "received_bytes": 12, "resumed": true },
            ]},
        }));
        for wanted in [
            "running     adit 1 for 1 h 2 min, process 7\n",
            "keys        epoch 2, valid for 1 d 1 h, next keys in 59 s, epoch 1 still in use\n",
            "cookies     on: ",
            "  sessions  3  of  100\n  rate      0  of  none\n",
            "DROPS\n  unknown  12\n\n",
            "SESSIONS (1 of 9 shown)\n  peer       remote       age  suite",
            "  anonymous  127.0.0.1:1  5 s  aes-256-gcm  0.2     1472  12.3 kB  12 B      yes\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_document_of_another_version_is_no_panic() {
        assert!(render(&json!({})).contains("SESSIONS (0)"));
        assert!(render(&json!([1])).contains("none"));
    }
}
