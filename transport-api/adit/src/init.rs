//! `adit init`: keys, configuration and the first bundle.

use std::{net::IpAddr, path::Path};

use serde_json::json;
use transport_api::{BundleEndpoint, ClientIdentity, EndpointAddress, OsEntropy};

use crate::{
    cli::{self, Access},
    config,
    exit::{Code, Context, Outcome},
    files,
    keyring::RelayKeys,
    output, secrets, token,
};

pub(crate) fn run(who: cli::Init, json: bool) -> Outcome {
    secrets::protect();
    match who {
        cli::Init::Relay {
            dir,
            endpoint,
            access,
        } => relay(&dir, &endpoint, access, json),
        cli::Init::Client { dir } => client(&dir, json),
        cli::Init::Issuer { dir } => issuer(&dir, json),
    }
}

/// The place `HOST:PORT` of a bundle.
pub(crate) fn bundle_endpoint(host: &str, port: u16) -> BundleEndpoint {
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Ip(ip),
        Err(_) => EndpointAddress::Name(host.to_string()),
    };
    BundleEndpoint {
        address,
        port,
        cover: 0,
    }
}

fn relay(dir: &Path, endpoint: &str, access: Access, as_json: bool) -> Outcome {
    let (host, port) = cli::host_port(endpoint).or_fail(Code::Usage, "--endpoint")?;
    std::fs::create_dir_all(dir).or_fail(Code::Config, dir.display())?;
    let paths = ["identity.key", "relay.toml", "relay.bundle"].map(|name| dir.join(name));
    let [key, toml, bundle] = &paths;
    refuse_existing(&paths)?;
    let keys = RelayKeys::generate()?;
    let signed = keys.bundle(bundle_endpoint(&host, port))?;
    keys.create(key)?;
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

fn issuer(dir: &Path, as_json: bool) -> Outcome {
    std::fs::create_dir_all(dir).or_fail(Code::Config, dir.display())?;
    let paths = ["issuer.key", "issuer.pub"].map(|name| dir.join(name));
    let [key, public] = &paths;
    refuse_existing(&paths)?;
    let id = u64::from_be_bytes(token::create_issuer(key, public)?.id());
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if as_json {
        let issuer = format!("{id:016x}");
        output::json_line(&json!({ "relay_id": null, "client_id": null, "issuer": issuer, "files": files }));
    } else {
        output::line(format_args!("issuer {id:016x}"));
        output::line(format_args!("Wrote {}", files.join(", ")));
        output::line(format_args!(
            "Next: [access] issuers = [\"{}\"] in relay.toml; adit token issue --key {}",
            public.display(),
            key.display()
        ));
    }
    Ok(())
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
