//! `adit init`: keys, configuration and the first bundle.

use std::{net::IpAddr, path::Path, time::Duration};

use serde_json::json;
use transport_api::{
    BundleDraft, BundleEndpoint, ClientIdentity, EndpointAddress, OsEntropy, RelayIdentity, RelayStatics,
};

use crate::{
    cli::{self, Access},
    config,
    exit::{Code, Context, Outcome},
    files, output,
};

/// How long a bundle is valid from the day it is made.
const VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// Clocks of clients may be behind by this much.
const CLOCK_MARGIN: Duration = Duration::from_secs(3_600);

pub(crate) fn run(who: cli::Init, json: bool) -> Outcome {
    match who {
        cli::Init::Relay {
            dir,
            endpoint,
            access,
        } => relay(&dir, &endpoint, access, json),
        cli::Init::Client { dir } => client(&dir, json),
    }
}

/// A relay's secrets.
pub(crate) struct RelayKeys {
    pub(crate) identity: RelayIdentity,
    pub(crate) statics: RelayStatics,
}

impl RelayKeys {
    pub(crate) fn generate() -> Outcome<Self> {
        let mut entropy = OsEntropy;
        Ok(Self {
            identity: RelayIdentity::generate(&mut entropy).or_fail(Code::Failed, "random source")?,
            statics: RelayStatics::generate(&mut entropy).or_fail(Code::Failed, "random source")?,
        })
    }

    /// From a file of `init relay`.
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let seeds: [u8; 160] = files::read_key(path, files::RELAY_LABEL)?;
        let (identity, statics) = seeds.split_at(64);
        let both = (identity.try_into(), statics.try_into());
        let (Ok(identity), Ok(statics)) = both else {
            unreachable!("64 and 96 bytes")
        };
        Ok(Self {
            identity: RelayIdentity::from_seeds(identity),
            statics: RelayStatics::from_seeds(statics),
        })
    }

    fn write(&self, path: &Path) -> Outcome {
        let mut seeds = [0; 160];
        seeds[..64].copy_from_slice(self.identity.seeds().expose());
        seeds[64..].copy_from_slice(self.statics.seeds().expose());
        files::create_key(path, files::RELAY_LABEL, &seeds)
    }

    /// The static keys once more, for an endpoint of their own.
    pub(crate) fn statics_again(&self) -> RelayStatics {
        RelayStatics::from_seeds(*self.statics.seeds().expose())
    }

    /// A bundle of the first epoch for one address.
    pub(crate) fn bundle(&self, host: &str, port: u16) -> Outcome<Vec<u8>> {
        let now = transport_api::now().unix_ms / 1000;
        let address = match host.parse::<IpAddr>() {
            Ok(ip) => EndpointAddress::Ip(ip),
            Err(_) => EndpointAddress::Name(host.to_string()),
        };
        let draft = BundleDraft {
            epoch: 1,
            not_before: now.saturating_sub(CLOCK_MARGIN.as_secs()),
            not_after: now + VALIDITY.as_secs(),
            endpoints: vec![BundleEndpoint {
                address,
                port,
                cover: 0,
            }],
        };
        self.identity
            .sign_bundle(&draft, &self.statics)
            .or_fail(Code::Config, "bundle")
    }
}

fn relay(dir: &Path, endpoint: &str, access: Access, as_json: bool) -> Outcome {
    let (host, port) = cli::host_port(endpoint).or_fail(Code::Usage, "--endpoint")?;
    std::fs::create_dir_all(dir).or_fail(Code::Config, dir.display())?;
    let paths = ["identity.key", "relay.toml", "relay.bundle"].map(|name| dir.join(name));
    let [key, toml, bundle] = &paths;
    refuse_existing(&paths)?;
    let keys = RelayKeys::generate()?;
    let signed = keys.bundle(&host, port)?;
    keys.write(key)?;
    files::create(toml, 0o644, config::template(port, access).as_bytes())?;
    files::create(bundle, 0o644, &signed)?;
    let relay_id = keys.identity.relay_id().to_string();
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if as_json {
        output::json_line(&json!({ "relay_id": relay_id, "client_id": null, "files": files }));
    } else {
        output::line(format_args!("relay_id {relay_id}"));
        output::line(format_args!("Wrote {}", files.join(", ")));
        output::line(format_args!(
            "Next: adit relay --config {}; give {} to clients",
            toml.display(),
            bundle.display()
        ));
    }
    Ok(())
}

/// Nothing is written unless everything can be.
fn refuse_existing(paths: &[std::path::PathBuf]) -> Outcome {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => crate::exit::fail(
            Code::Config,
            format!(
                "{}: exists already; move it away or choose another --dir",
                path.display()
            ),
        ),
        None => Ok(()),
    }
}

fn client(dir: &Path, as_json: bool) -> Outcome {
    std::fs::create_dir_all(dir).or_fail(Code::Config, dir.display())?;
    let identity = ClientIdentity::generate(&mut OsEntropy).or_fail(Code::Failed, "random source")?;
    let path = dir.join("client.key");
    files::create_key(&path, files::CLIENT_LABEL, identity.seeds().expose())?;
    let client_id = identity.client_id().to_string();
    let file = path.display().to_string();
    if as_json {
        output::json_line(&json!({ "relay_id": null, "client_id": client_id, "files": [file] }));
    } else {
        output::line(format_args!("client_id {client_id}"));
        output::line(format_args!("Wrote {file}"));
    }
    Ok(())
}
