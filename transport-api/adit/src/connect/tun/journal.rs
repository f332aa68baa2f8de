//! What a tunnel changes beyond its device, on the disk before it is changed: whoever starts next takes it back if this process
//! was killed.
//!
//! One file for each device, locked as long as its process lives.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use transport_api::tun::netlink::Netlink;

use super::{dns, system};
use crate::{
    exit::{Code, Context, Outcome, fail},
    output,
    relay::vpn::explain_netlink,
    state,
};

/// What is to be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Changes {
    /// Rules and our own table.
    policy: bool,
    /// resolv.conf as it was.
    resolv_conf: Option<String>,
}

/// The journal of one device.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    changes: Changes,
}

/// Takes back what processes that are gone left behind, and begins the journal of `name`.
pub(super) fn open(name: &str) -> Outcome<Journal> {
    let folder = state::root().join("tun");
    fs::create_dir_all(&folder).or_fail(Code::Failed, folder.display())?;
    let mut policy_held = false;
    for entry in fs::read_dir(&folder)
        .or_fail(Code::Failed, folder.display())?
        .flatten()
    {
        if entry.path().extension().is_some_and(|end| end == "json") {
            policy_held |= take_back(&entry.path())?;
        }
    }
    if policy_held {
        return fail(
            Code::Failed,
            "--tun: another `adit connect` routes everything through its tunnel; end it first",
        );
    }
    let path = folder.join(format!("{}.json", name.replace(['/', '.'], "_")));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_fail(Code::Failed, path.display())?;
    if file.try_lock().is_err() {
        return fail(
            Code::Failed,
            format!("--tun: another process has {name}; choose another name"),
        );
    }
    Ok(Journal {
        path,
        file,
        changes: Changes::default(),
    })
}

/// Undoes what a journal says unless its process lives. True: it lives, and holds the rules.
fn take_back(path: &Path) -> Outcome<bool> {
    let Ok(mut file) = File::open(path) else {
        return Ok(false);
    };
    let mut text = String::new();
    file.read_to_string(&mut text)
        .or_fail(Code::Failed, path.display())?;
    let changes: Changes = serde_json::from_str(&text).unwrap_or_default();
    if file.try_lock().is_err() {
        return Ok(changes.policy);
    }
    if changes != Changes::default() {
        output::tell(format_args!(
            "--tun: taking back what a process that was killed has left"
        ));
    }
    let undone = Netlink::open().and_then(|mut kernel| system::undo(&mut kernel, changes.policy));
    undone.map_err(|error| explain_netlink(&error, "--tun"))?;
    if let Some(before) = &changes.resolv_conf {
        dns::restore(before).or_fail(Code::Failed, dns::RESOLV_CONF)?;
    }
    fs::remove_file(path).or_fail(Code::Failed, path.display())?;
    Ok(false)
}

impl Journal {
    /// Rules are about to be made.
    pub(super) fn note_policy(&mut self) {
        self.changes.policy = true;
        self.write();
    }

    /// resolv.conf is about to be written.
    pub(super) fn note_resolv_conf(&mut self, before: String) {
        self.changes.resolv_conf = Some(before);
        self.write();
    }

    /// Rules are taken back; so is the rest, and the file.
    pub(super) fn finish(&mut self) {
        let restored = self.changes.resolv_conf.as_deref().map_or(Ok(()), dns::restore);
        let done = restored.and_then(|()| fs::remove_file(&self.path));
        if let Err(error) = done {
            output::complain(&format!("{}: {error}", self.path.display()));
        }
    }

    fn write(&mut self) {
        let mut save = || -> std::io::Result<()> {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file
                .write_all(serde_json::to_string(&self.changes)?.as_bytes())?;
            self.file.sync_data()
        };
        if let Err(error) = save() {
            output::complain(&format!("{}: {error}", self.path.display()));
        }
    }
}
