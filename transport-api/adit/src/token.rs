//! `adit token`: issuers' keys and the tokens they sign.

use std::{fs, path::Path};

use serde_json::json;
use transport_api::{
    OsEntropy, TokenIssuer, TokenKey,
    relay::auth::{AccessToken, TOKEN_SCHEME, TokenError},
};

use crate::{
    cli,
    exit::{Code, Context, Failure, Outcome, fail},
    files,
    keyring::unix_now,
    output, secrets,
};

/// PEM label of an issuer's key: its seed (32 bytes).
pub(crate) const ISSUER_LABEL: &str = "ADIT ISSUER KEY";
/// PEM label of what relays need of it.
const ISSUER_PUBLIC_LABEL: &str = "ADIT ISSUER PUBLIC KEY";
/// Clocks may differ by this, seconds.
const CLOCK_MARGIN_S: u64 = 300;
/// The longest file with a token.
const MAX_FILE: u64 = 16 * 1024;

pub(crate) fn run(what: cli::Token, as_json: bool) -> Outcome {
    secrets::protect();
    match what {
        cli::Token::Issue(wanted) => issue(&wanted, as_json),
        cli::Token::Show { file, issuer } => show(&file, issuer.as_deref(), as_json),
    }
}

/// A new issuer: its key, and the file for relays.
pub(crate) fn create_issuer(key: &Path, public: &Path) -> Outcome<TokenKey> {
    let issuer = TokenIssuer::generate(&mut OsEntropy).or_fail(Code::Failed, "random source")?;
    let verifier = issuer.verifier();
    files::create_key(key, ISSUER_LABEL, issuer.seed().expose())?;
    let text = files::encode_key(ISSUER_PUBLIC_LABEL, verifier.as_bytes())?;
    files::create(public, 0o644, text.as_bytes())?;
    Ok(verifier)
}

/// The public key of an issuer.
pub(crate) fn read_issuer(path: &Path) -> Outcome<TokenKey> {
    let shown = path.display();
    let text = fs::read_to_string(path).or_fail(Code::Config, &shown)?;
    let (label, bytes) =
        pem_rfc7468::decode_vec(text.as_bytes()).or_fail(Code::Config, format!("{shown}: not a PEM key"))?;
    match bytes.as_slice().try_into() {
        Ok(key) if label == ISSUER_PUBLIC_LABEL => Ok(TokenKey::from_bytes(key)),
        _ => fail(
            Code::Config,
            format!("{shown}: holds {label}, wanted {ISSUER_PUBLIC_LABEL}"),
        ),
    }
}

/// The value of `authorization` that a file holds: a token, or scheme and credentials.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    let shown = path.display();
    let length = fs::metadata(path).or_fail(Code::Config, &shown)?.len();
    if length > MAX_FILE {
        return fail(Code::Config, format!("{shown}: longer than any token"));
    }
    let text = fs::read_to_string(path).or_fail(Code::Config, &shown)?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(|c| !(' '..='~').contains(&c)) {
        return fail(Code::Config, format!("{shown}: not one line of text"));
    }
    Ok(match text.split_once(' ') {
        Some(_) => text.to_string(),
        None => format!("{TOKEN_SCHEME} {text}"),
    })
}

fn issue(wanted: &cli::Issue, as_json: bool) -> Outcome {
    let seed = files::read_key::<32>(&wanted.key, ISSUER_LABEL)?;
    let issuer = TokenIssuer::from_seed(*seed);
    let now = unix_now();
    let token = AccessToken {
        tenant: wanted.tenant,
        not_before: now.saturating_sub(CLOCK_MARGIN_S),
        not_after: (now + wanted.hours * 3600).saturating_sub(CLOCK_MARGIN_S),
        nonce: AccessToken::fresh_nonce(&mut OsEntropy).or_fail(Code::Failed, "random source")?,
        mbit: wanted.mbit,
        client: wanted.client,
    };
    let text = token.issue(&issuer).or_fail(Code::Usage, "--hours")?;
    if as_json {
        let mut shown = describe(&token, issuer.verifier().id());
        shown["token"] = text.into();
        output::json_line(&shown);
    } else {
        output::line(text);
    }
    Ok(())
}

fn show(file: &Path, issuer: Option<&Path>, as_json: bool) -> Outcome {
    let value = read(file)?;
    let text = value
        .strip_prefix(TOKEN_SCHEME)
        .map_or(value.as_str(), str::trim_start);
    let (token, id) = AccessToken::peek(text).or_fail(Code::Config, file.display())?;
    let verified = match issuer {
        Some(path) => {
            let key = read_issuer(path)?;
            AccessToken::verify(text, &key).map_err(|error| refused(file, error))?;
            true
        }
        None => false,
    };
    let valid = token.check_time(unix_now());
    if as_json {
        let mut shown = describe(&token, id);
        shown["verified"] = verified.into();
        shown["valid"] = valid.is_ok().into();
        output::json_line(&shown);
        return Ok(());
    }
    output::line(format_args!("tenant      {}", token.tenant));
    output::line(format_args!("issuer      {:016x}", u64::from_be_bytes(id)));
    output::line(format_args!("not_before  {} (unix seconds)", token.not_before));
    output::line(format_args!("not_after   {} (unix seconds)", token.not_after));
    match token.mbit {
        0 => output::line("rate        no limit"),
        mbit => output::line(format_args!("rate        {mbit} Mbit/s")),
    }
    match token.client {
        Some(client) => output::line(format_args!("client_id   {client}")),
        None => output::line("client_id   any; for one session"),
    }
    output::line(if verified {
        "signature   ML-DSA-65, verified"
    } else {
        "signature   not verified; name the issuer with --issuer"
    });
    output::line(format_args!(
        "valid now   {}",
        valid.map_or_else(|error| format!("no: {error}"), |()| "yes".into())
    ));
    Ok(())
}

fn refused(file: &Path, error: TokenError) -> Failure {
    Failure {
        code: Code::Auth,
        message: format!("{}: {error}", file.display()),
    }
}

fn describe(token: &AccessToken, issuer: [u8; 8]) -> serde_json::Value {
    json!({
        "tenant": token.tenant.to_string(),
        "issuer": format!("{:016x}", u64::from_be_bytes(issuer)),
        "not_before": token.not_before,
        "not_after": token.not_after,
        "mbit": token.mbit,
        "client_id": token.client.map(|client| client.to_string()),
    })
}
