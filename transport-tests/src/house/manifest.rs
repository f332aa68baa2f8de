//! What the manifests and the lock file say: who asks for whom, and what is really built for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// A member of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Directory from the root of the repository.
    pub dir: String,
    /// Package name.
    pub name: String,
    /// `[dependencies]`, for every target: package names.
    pub normal: BTreeSet<String>,
    /// `[dev-dependencies]`.
    pub dev: BTreeSet<String>,
    /// `[build-dependencies]`.
    pub build: BTreeSet<String>,
}

/// Reads the manifests of all members.
///
/// # Panics
/// When a manifest is missing or is not what cargo would accept.
#[must_use]
pub fn members(root: &Path) -> Vec<Member> {
    let workspace = read(&root.join("Cargo.toml"));
    let list = workspace["workspace"]["members"]
        .as_array()
        .expect("[workspace] members is a list");
    let shared = workspace["workspace"]
        .get("dependencies")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    list.iter()
        .map(|dir| dir.as_str().expect("a member is a path"))
        .map(|dir| member(dir, &read(&root.join(dir).join("Cargo.toml")), &shared))
        .collect()
}

fn read(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One manifest; `shared` is `[workspace.dependencies]`, where a dependency may have been renamed.
#[must_use]
pub fn member(dir: &str, manifest: &Table, shared: &Table) -> Member {
    let names = |kind: &str| -> BTreeSet<String> {
        let targets = manifest.get("target").and_then(Value::as_table);
        let tables = targets
            .into_iter()
            .flat_map(Table::values)
            .filter_map(|target| target.get(kind));
        tables
            .chain(manifest.get(kind))
            .filter_map(Value::as_table)
            .flatten()
            .map(|(key, value)| real_name(key, value, shared))
            .collect()
    };
    Member {
        dir: dir.to_owned(),
        name: manifest
            .get("package")
            .and_then(|p| p.get("name")?.as_str())
            .unwrap_or(dir)
            .to_owned(),
        normal: names("dependencies"),
        dev: names("dev-dependencies"),
        build: names("build-dependencies"),
    }
}

fn real_name(key: &str, value: &Value, shared: &Table) -> String {
    let renamed = |value: &Value| value.get("package").and_then(Value::as_str).map(str::to_owned);
    renamed(value)
        .or_else(|| renamed(shared.get(key)?))
        .unwrap_or_else(|| key.to_owned())
}

/// What a crate may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Directory of the member.
    pub dir: &'static str,
    /// `[dependencies]` it may have; `None`: whatever it needs from outside, but ours only as listed in `ours`.
    pub others: Option<&'static [&'static str]>,
    /// Members it may have among its `[dependencies]`.
    pub ours: &'static [&'static str],
    /// `[dev-dependencies]` it may have besides; `None`: any.
    pub dev: Option<&'static [&'static str]>,
    /// The reason, shown with every finding.
    pub why: &'static str,
}

/// Holds the manifests against the table; a member without a line in the table is a finding too.
#[must_use]
pub fn check(table: &[Allowed], members: &[Member]) -> Vec<String> {
    let house: BTreeSet<&str> = members.iter().map(|m| m.name.as_str()).collect();
    let mut findings = Vec::new();
    for member in members {
        let at = format!("{}/Cargo.toml", member.dir);
        let Some(line) = table.iter().find(|line| line.dir == member.dir) else {
            findings.push(format!(
                "{at}: no line in the table of crates – add one that says what it may import"
            ));
            continue;
        };
        let ours = |name: &str| house.contains(name);
        let normal = |name: &str| {
            if ours(name) {
                line.ours.contains(&name)
            } else {
                line.others.is_none_or(|l| l.contains(&name))
            }
        };
        let dev = |name: &str| normal(name) || line.dev.is_none_or(|list| list.contains(&name));
        let mut say =
            |kind: &str, name: &str| findings.push(format!("{at}: [{kind}] has `{name}` – {}", line.why));
        member
            .normal
            .iter()
            .filter(|name| !normal(name))
            .for_each(|name| say("dependencies", name));
        member
            .dev
            .iter()
            .filter(|name| !dev(name))
            .for_each(|name| say("dev-dependencies", name));
        // A build script runs on the builder's machine; nobody in the house needs one.
        member
            .build
            .iter()
            .for_each(|name| say("build-dependencies", name));
    }
    findings
}

/// The lock file: each package with the packages it was resolved to use.
#[derive(Debug, Default)]
pub struct Lock {
    /// Key `name version`; the values are such keys too.
    uses: BTreeMap<String, Vec<String>>,
}

/// Reads `Cargo.lock`.
///
/// # Panics
/// When it is missing or unreadable.
#[must_use]
pub fn lock(root: &Path) -> Lock {
    Lock::new(&read(&root.join("Cargo.lock")))
}

impl Lock {
    /// Takes a parsed lock file.
    #[must_use]
    pub fn new(lock: &Table) -> Self {
        let packages: Vec<&Value> = lock
            .get("package")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let text =
            |package: &Value, key: &str| package.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let key = |package: &Value| format!("{} {}", text(package, "name"), text(package, "version"));
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in &packages {
            versions
                .entry(text(package, "name"))
                .or_default()
                .push(key(package));
        }
        // "name" when it is the only one, else "name version" or "name version (source)".
        let resolve = |entry: &str| -> Vec<String> {
            let mut words = entry.split(' ');
            let name = words.next().unwrap_or_default();
            match words.next() {
                Some(version) => vec![format!("{name} {version}")],
                None => versions.get(name).cloned().unwrap_or_default(),
            }
        };
        let uses = packages.iter().map(|package| {
            let list = package
                .get("dependencies")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            (
                key(package),
                list.filter_map(Value::as_str).flat_map(resolve).collect(),
            )
        });
        Self { uses: uses.collect() }
    }

    /// Everything built into `start`, with the way to it: package name → `start → … → package`.
    ///
    /// Of members only `[dependencies]` and `[build-dependencies]` count: the lock lists those for tests as well.
    #[must_use]
    pub fn tree(&self, start: &str, members: &[Member]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let first = self.uses.keys().find(|key| name(key) == start).cloned();
        let mut open: Vec<(String, String)> = first.into_iter().map(|key| (key, start.to_owned())).collect();
        while let Some((key, way)) = open.pop() {
            if !seen.insert(key.clone()) {
                continue;
            }
            let member = members.iter().find(|m| m.name == name(&key));
            let counts =
                |used: &str| member.is_none_or(|m| m.normal.contains(used) || m.build.contains(used));
            for used in self
                .uses
                .get(&key)
                .into_iter()
                .flatten()
                .filter(|used| counts(name(used)))
            {
                open.push((used.clone(), format!("{way} → {}", name(used))));
            }
            found.entry(name(&key).to_owned()).or_insert(way);
        }
        found
    }
}

fn name(key: &str) -> &str {
    key.split(' ').next().unwrap_or(key)
}

/// Whether a package name matches one of the patterns; `quinn*` matches every name that starts so.
#[must_use]
pub fn banned(package: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => package == *pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [Allowed; 2] = [
        Allowed {
            dir: "a",
            others: Some(&["libc"]),
            ours: &[],
            dev: Some(&["arbtest"]),
            why: "leaf",
        },
        Allowed {
            dir: "b",
            others: None,
            ours: &["a"],
            dev: None,
            why: "top",
        },
    ];

    fn parse(dir: &str, text: &str) -> Member {
        member(
            dir,
            &text.parse().unwrap(),
            &"mask = { package = \"tokio\" }".parse().unwrap(),
        )
    }

    #[test]
    fn a_manifest_that_asks_too_much_is_found() {
        let clean = parse("a", "dependencies.libc = \"1\"\ndev-dependencies.arbtest = \"1\"");
        assert_eq!(check(&TABLE, std::slice::from_ref(&clean)), [""; 0]);
        for bad in [
            "dependencies.mio = \"1\"",
            "dependencies.b = { path = \"../b\" }",
            "dependencies.libc = { package = \"mio\", version = \"1\" }",
            "dependencies.mask.workspace = true",
            "[target.'cfg(unix)'.dependencies]\nmio = \"1\"",
            "dev-dependencies.tokio = \"1\"",
            "build-dependencies.libc = \"1\"",
        ] {
            assert_eq!(check(&TABLE, &[parse("a", bad)]).len(), 1, "{bad}");
        }
        assert_eq!(check(&TABLE, &[clean, parse("c", "")]).len(), 1);
    }

    #[test]
    fn ours_are_listed_even_where_others_are_free() {
        let members = [
            parse("a", ""),
            parse("b", "dependencies.a = \"1\"\ndependencies.serde = \"1\""),
        ];
        assert_eq!(check(&TABLE, &members), [""; 0]);
        let members = [parse("a", ""), parse("b", "dependencies.b = \"1\"")];
        assert_eq!(check(&TABLE, &members).len(), 1);
    }

    #[test]
    fn the_lock_tree_follows_what_is_built_and_leaves_out_what_is_tested() {
        let text = r#"
            package = [
              { name = "a", version = "1", dependencies = ["x 2", "dev"] },
              { name = "x", version = "1", dependencies = ["ring"] },
              { name = "x", version = "2", dependencies = ["quinn-udp"] },
              { name = "dev", version = "1", dependencies = ["tokio"] },
              { name = "ring", version = "1" }, { name = "tokio", version = "1" }, { name = "quinn-udp", version = "1" },
            ]"#;
        let lock = Lock::new(&text.parse().unwrap());
        let tree = lock.tree(
            "a",
            &[parse("a", "dependencies.x = \"2\"\ndev-dependencies.dev = \"1\"")],
        );
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["a", "quinn-udp", "x"]);
        assert_eq!(tree["quinn-udp"], "a → x → quinn-udp");
        assert!(banned("quinn-udp", &["ring", "quinn*"]) && !banned("ring2", &["ring", "quinn*"]));
    }
}
