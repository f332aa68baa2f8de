//! `adit bundle show`, `adit bundle verify` and `adit bundle rotate`.

use serde_json::json;
use transport_api::{Bundle, EndpointAddress, RelayId};

use crate::{
    cli,
    config::Config,
    exit::{Code, Context, Outcome},
    files,
    keyring::{KeyRing, Paths, unix_now},
    output, secrets,
};

pub(crate) fn run(what: cli::Bundle, as_json: bool) -> Outcome {
    match what {
        cli::Bundle::Show { file } => {
            show(&files::read_bundle(&file)?, as_json);
            Ok(())
        }
        cli::Bundle::Verify { file, relay_id } => {
            let wanted: RelayId = relay_id.parse().or_fail(Code::Usage, "--relay-id")?;
            let bundle = files::read_bundle(&file)?;
            check(&bundle, Some(&wanted)).or_fail(Code::Auth, file.display())?;
            show(&bundle, as_json);
            Ok(())
        }
        cli::Bundle::Rotate { config, force } => {
            rotate(&Config::load(&config)?.identity.paths(), force, as_json)
        }
    }
}

fn rotate(paths: &Paths, force: bool, as_json: bool) -> Outcome {
    secrets::protect();
    let ring = KeyRing::rotate(paths, unix_now(), force)?;
    let (bundle, file) = (&ring.bundle, paths.bundle.display().to_string());
    if as_json {
        let previous = ring.previous.as_ref();
        output::json_line(&json!({
            "relay_id": ring.relay_id().to_string(),
            "epoch": bundle.epoch(),
            "not_before": bundle.not_before(),
            "not_after": bundle.not_after(),
            "bundle": file,
            "previous": previous.map(|it| json!({ "epoch": it.epoch, "not_after": it.not_after })),
        }));
        return Ok(());
    }
    output::line(format_args!("Wrote epoch {} to {file}", bundle.epoch()));
    if let Some(previous) = &ring.previous {
        output::line(format_args!(
            "Epoch {} stays in use until {} (unix seconds)",
            previous.epoch, previous.not_after
        ));
    }
    output::line("Next: send SIGHUP to the relay if it runs; its clients fetch the new bundle by themselves");
    Ok(())
}

/// Whether a bundle may be used now, and is the wanted relay's.
pub(crate) fn check(bundle: &Bundle, wanted: Option<&RelayId>) -> Result<(), transport_api::BundleError> {
    if let Some(wanted) = wanted {
        bundle.check_id(wanted)?;
    }
    bundle.check_time(unix_now())
}

fn show(bundle: &Bundle, as_json: bool) {
    let endpoints: Vec<String> = bundle
        .endpoints()
        .iter()
        .map(|endpoint| match &endpoint.address {
            EndpointAddress::Ip(ip) => std::net::SocketAddr::new(*ip, endpoint.port).to_string(),
            EndpointAddress::Name(name) => format!("{name}:{}", endpoint.port),
        })
        .collect();
    let valid = check(bundle, None).map_err(|error| error.to_string());
    if as_json {
        output::json_line(&json!({
            "relay_id": bundle.relay_id().to_string(),
            "epoch": bundle.epoch(),
            "not_before": bundle.not_before(),
            "not_after": bundle.not_after(),
            "endpoints": endpoints,
            "bytes": bundle.bytes().len(),
            "valid": valid.is_ok(),
        }));
        return;
    }
    output::line(format_args!("relay_id    {}", bundle.relay_id()));
    output::line(format_args!("epoch       {}", bundle.epoch()));
    output::line(format_args!("not_before  {} (unix seconds)", bundle.not_before()));
    output::line(format_args!("not_after   {} (unix seconds)", bundle.not_after()));
    output::line(format_args!("endpoints   {}", endpoints.join(", ")));
    output::line(format_args!("signatures  ML-DSA-65 and Ed25519, both verified"));
    output::line(format_args!(
        "valid now   {}",
        valid.map_or_else(|error| format!("no: {error}"), |()| "yes".into())
    ));
}
