//! URI templates of MASQUE proxies (RFC 6570 up to level 3, as RFC 9298 §2 and RFC 9484 §3 restrict them): clients expand
//! them, servers match requests against the same template.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use super::ip::{BadScope, IpScope};
use super::target::{BadTarget, BindTarget, Host, Target};

/// The path every relay serves for UDP (RFC 9298 §2).
pub const DEFAULT_UDP_PATH: &str = "/.well-known/masque/udp/{target_host}/{target_port}/";
/// The path every relay serves for IP (RFC 9484 §3).
pub const DEFAULT_IP_PATH: &str = "/.well-known/masque/ip/{target}/{ipproto}/";
const MAX_TEMPLATE: usize = 2048;

/// What a template leads to: the names of its two variables, and whether both must occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    host: &'static str,
    port: &'static str,
    required: bool,
}

const UDP: Kind = Kind {
    host: "target_host",
    port: "target_port",
    required: true,
};
const IP: Kind = Kind {
    host: "target",
    port: "ipproto",
    required: false,
};

impl Kind {
    fn variable(&self, name: &str) -> Result<Variable, TemplateError> {
        if let Some(modifier) = name.chars().find(|c| matches!(c, ':' | '*')) {
            return Err(TemplateError::BadOperator(modifier));
        }
        match name {
            name if name == self.host => Ok(Variable::Host),
            name if name == self.port => Ok(Variable::Port),
            _ => Err(TemplateError::UnknownVariable(name.into())),
        }
    }
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is not an absolute URI with scheme, authority and a path that begins with "/".
    NotAbsolute,
    /// It has characters other than 0x21 to 0x7e, or is longer than 2048 bytes.
    BadCharacter,
    /// A brace is not closed, or stands outside path and query, or nothing tells two values apart.
    BadExpression,
    /// One of the operators `+ # . / ;`, or a modifier of level 4.
    BadOperator(char),
    /// A variable other than the two that belong there.
    UnknownVariable(String),
    /// A variable does not occur exactly once; for CONNECT-IP: occurs twice.
    MissingVariable(&'static str),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("the template must be https://host/path"),
            Self::BadCharacter => f.write_str("the template has forbidden characters or is too long"),
            Self::BadExpression => f.write_str("variables must stand in {braces} in the path or the query"),
            Self::BadOperator(op) => write!(f, "the template uses {op:?}, which is not allowed here"),
            Self::UnknownVariable(name) => write!(f, "the template has an unknown variable {name:?}"),
            Self::MissingVariable(name) => write!(f, "the template must contain {{{name}}} once"),
        }
    }
}

impl std::error::Error for TemplateError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Host,
    Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

/// A checked template: for CONNECT-UDP of one host and port, or for CONNECT-IP of a target and a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    kind: Kind,
    scheme: String,
    authority: String,
    path: Vec<Part>,
    /// Name and value, in order.
    query: Vec<(String, Part)>,
}

impl Template {
    /// Checks and compiles a template for CONNECT-UDP.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_as(UDP, text)
    }

    /// Checks and compiles a template for CONNECT-IP: `target` and `ipproto`, each of which may be left out.
    pub fn parse_ip(text: &str) -> Result<Self, TemplateError> {
        Self::parse_as(IP, text)
    }

    fn parse_as(kind: Kind, text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE || !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err(TemplateError::BadCharacter);
        }
        let (scheme, rest) = text.split_once("://").ok_or(TemplateError::NotAbsolute)?;
        let slash = rest.find('/').ok_or(TemplateError::NotAbsolute)?;
        let (authority, resource) = rest.split_at_checked(slash).ok_or(TemplateError::NotAbsolute)?;
        if scheme.is_empty() || authority.is_empty() {
            return Err(TemplateError::NotAbsolute);
        }
        if scheme.contains(['{', '}']) || authority.contains(['{', '}', '?', '#']) {
            return Err(TemplateError::BadExpression);
        }
        let mut template = Self {
            kind,
            scheme: scheme.into(),
            authority: authority.into(),
            path: Vec::new(),
            query: Vec::new(),
        };
        template.compile(resource)?;
        template.check_variables()?;
        Ok(template)
    }

    /// The default template of the proxy with this authority.
    pub fn well_known(authority: &str) -> Result<Self, TemplateError> {
        Self::parse(&format!("https://{authority}{DEFAULT_UDP_PATH}"))
    }

    /// The default template for CONNECT-IP of the proxy with this authority.
    pub fn well_known_ip(authority: &str) -> Result<Self, TemplateError> {
        Self::parse_ip(&format!("https://{authority}{DEFAULT_IP_PATH}"))
    }

    /// The default template of a relay that is known by its keys and needs no name.
    pub fn relay() -> Self {
        Self::default_of(UDP, "/.well-known/masque/udp/")
    }

    /// The default template for CONNECT-IP of a relay that is known by its keys.
    pub fn relay_ip() -> Self {
        Self::default_of(IP, "/.well-known/masque/ip/")
    }

    fn default_of(kind: Kind, folder: &str) -> Self {
        let literal = |text: &str| Part::Literal(text.into());
        Self {
            kind,
            scheme: "https".into(),
            authority: "relay".into(),
            path: vec![
                literal(folder),
                Part::Variable(Variable::Host),
                literal("/"),
                Part::Variable(Variable::Port),
                literal("/"),
            ],
            query: Vec::new(),
        }
    }

    /// The authority of the proxy.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The scheme.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// `:path` of a request for `target`.
    pub fn expand(&self, target: &Target) -> String {
        let host = match target.host() {
            Host::Ip(ip) => Cow::Owned(ip.to_string()),
            Host::Name(name) => Cow::Borrowed(name.as_str()),
        };
        self.fill(&host, &target.port().to_string())
    }

    /// `:path` of a request for bind that has no target of its own, and so nothing to fall back to.
    pub fn expand_bind_any(&self) -> String {
        self.fill("*", "*")
    }

    /// `:path` of a CONNECT-IP request for `scope`.
    pub fn expand_ip(&self, scope: &IpScope) -> String {
        let (target, protocol) = scope.variables();
        self.fill(&target, &protocol)
    }

    fn fill(&self, host: &str, port: &str) -> String {
        let mut out = String::with_capacity(64);
        let put = |part: &Part, out: &mut String| match part {
            Part::Literal(text) => out.push_str(text),
            Part::Variable(Variable::Port) => percent_encode(port, out),
            Part::Variable(Variable::Host) => percent_encode(host, out),
        };
        for part in &self.path {
            put(part, &mut out);
        }
        for (index, (name, part)) in self.query.iter().enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            out.push_str(name);
            out.push('=');
            put(part, &mut out);
        }
        out
    }

    /// What a request for `path` asks for: `None` when it does not belong to this template.
    pub fn matches(&self, path: &str) -> Option<Result<Target, BadTarget>> {
        self.find(path).map(|found| found.target())
    }

    /// What a CONNECT-UDP request with bind for `path` asks for: `None` when it does not belong to this template. `*` stands for
    /// no target in both variables or in none, and percent-encoded.
    pub fn matches_bind(&self, path: &str) -> Option<Result<BindTarget, BadTarget>> {
        self.find(path).map(|found| found.bind_target())
    }

    /// What a CONNECT-IP request for `path` asks for: `None` when it does not belong to this template.
    pub fn matches_ip(&self, path: &str) -> Option<Result<IpScope, BadScope>> {
        self.find(path).map(|found| found.scope())
    }

    fn find<'a>(&self, path: &'a str) -> Option<Found<'a>> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut found = Found::default();
        match_path(&self.path, path, &mut found)?;
        self.match_query(query, &mut found)?;
        Some(found)
    }

    fn compile(&mut self, resource: &str) -> Result<(), TemplateError> {
        // "{?a,b}" continues the query just as "?a={a}&b={b}" does.
        let query_at = resource
            .find("{?")
            .into_iter()
            .chain(resource.find('?'))
            .min()
            .unwrap_or(resource.len());
        let (path, query) = resource
            .split_at_checked(query_at)
            .ok_or(TemplateError::BadExpression)?;
        self.path = compile_path(self.kind, path)?;
        let mut rest = query;
        while !rest.is_empty() {
            if let Some(expression) = rest.strip_prefix("{?").or_else(|| rest.strip_prefix("{&")) {
                let (names, after) = expression.split_once('}').ok_or(TemplateError::BadExpression)?;
                for name in names.split(',') {
                    self.add_pair(name, Part::Variable(self.kind.variable(name)?))?;
                }
                rest = after;
            } else if let Some(pair) = rest.strip_prefix(['?', '&']) {
                let end = pair
                    .find('&')
                    .into_iter()
                    .chain(pair.find("{&"))
                    .min()
                    .unwrap_or(pair.len());
                let (pair, after) = pair.split_at_checked(end).ok_or(TemplateError::BadExpression)?;
                let (name, value) = pair.split_once('=').ok_or(TemplateError::BadExpression)?;
                self.add_pair(name, compile_value(self.kind, name, value)?)?;
                rest = after;
            } else {
                return Err(TemplateError::BadExpression);
            }
        }
        Ok(())
    }

    /// Two pairs of one name could not be told apart again.
    fn add_pair(&mut self, name: &str, part: Part) -> Result<(), TemplateError> {
        if self.query.iter().any(|(known, _)| known == name) {
            return Err(TemplateError::BadExpression);
        }
        self.query.push((name.into(), part));
        Ok(())
    }

    fn check_variables(&self) -> Result<(), TemplateError> {
        let parts = || self.path.iter().chain(self.query.iter().map(|(_, part)| part));
        let Kind { host, port, required } = self.kind;
        for (variable, name) in [(Variable::Host, host), (Variable::Port, port)] {
            let count = parts().filter(|&p| *p == Part::Variable(variable)).count();
            if count > 1 || required && count == 0 {
                return Err(TemplateError::MissingVariable(name));
            }
        }
        Ok(())
    }

    fn match_query<'a>(&self, query: &'a str, found: &mut Found<'a>) -> Option<()> {
        for (name, part) in &self.query {
            let mut values = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .filter(|(n, _)| n == name);
            let (_, value) = values.next()?;
            match part {
                Part::Literal(text) if text == value => {}
                Part::Literal(_) => return None,
                Part::Variable(variable) => found.set(*variable, value),
            }
        }
        Some(())
    }
}

/// Raw, percent-encoded values of the variables.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a str>,
    port: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn set(&mut self, variable: Variable, value: &'a str) {
        match variable {
            Variable::Host => self.host = Some(value),
            Variable::Port => self.port = Some(value),
        }
    }

    fn decoded(&self) -> Result<(String, String), BadTarget> {
        let decode = |value: Option<&str>| value.and_then(percent_decode).ok_or(BadTarget);
        Ok((decode(self.host)?, decode(self.port)?))
    }

    fn target(&self) -> Result<Target, BadTarget> {
        let (host, port) = self.decoded()?;
        Target::from_variables(&host, &port)
    }

    fn bind_target(&self) -> Result<BindTarget, BadTarget> {
        let (host, port) = self.decoded()?;
        if host == "*" && port == "*" {
            return Ok(BindTarget::Any);
        }
        // One "*" alone is neither a host nor a port.
        Target::from_variables(&host, &port).map(BindTarget::Host)
    }

    fn scope(&self) -> Result<IpScope, BadScope> {
        // The examples of RFC 9484 have "*" as it is, where an expansion has "%2A".
        let decoded = |value: Option<&str>| match value {
            Some("*") => Ok(Some("*".to_owned())),
            Some(text) => percent_decode(text).map(Some).ok_or(BadScope),
            None => Ok(None),
        };
        IpScope::from_variables(decoded(self.host)?.as_deref(), decoded(self.port)?.as_deref())
    }
}

fn compile_path(kind: Kind, path: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (literal, expression) = match rest.split_once('{') {
            Some((literal, expression)) => (literal, Some(expression)),
            None => (rest, None),
        };
        if literal.contains(['}', '#']) {
            return Err(TemplateError::BadExpression);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        let Some(expression) = expression else { break };
        let (names, after) = expression.split_once('}').ok_or(TemplateError::BadExpression)?;
        if let Some(operator) = names.chars().next().filter(|c| "+#./;?&=,!@|".contains(*c)) {
            return Err(TemplateError::BadOperator(operator));
        }
        for (index, name) in names.split(',').enumerate() {
            if index > 0 {
                parts.push(Part::Literal(",".into()));
            }
            parts.push(Part::Variable(kind.variable(name)?));
        }
        rest = after;
    }
    // Two variables side by side could not be told apart again, nor could digits between them and the port's.
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let ambiguous = parts.windows(3).any(
        |three| matches!(three, [Part::Variable(_), Part::Literal(text), Part::Variable(_)] if digits(text)),
    );
    let adjacent = parts
        .windows(2)
        .any(|two| matches!(two, [Part::Variable(_), Part::Variable(_)]));
    if ambiguous || adjacent {
        Err(TemplateError::BadExpression)
    } else {
        Ok(parts)
    }
}

fn compile_value(kind: Kind, name: &str, value: &str) -> Result<Part, TemplateError> {
    if name.contains(['{', '}', '#']) {
        return Err(TemplateError::BadExpression);
    }
    match value.strip_prefix('{').and_then(|v| v.strip_suffix('}')) {
        Some(inner) => Ok(Part::Variable(kind.variable(inner)?)),
        None if value.contains(['{', '}', '#']) => Err(TemplateError::BadExpression),
        None => Ok(Part::Literal(value.into())),
    }
}

/// Everything but unreserved characters is encoded (RFC 6570 §3.2.2).
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn match_path<'a>(parts: &[Part], path: &'a str, found: &mut Found<'a>) -> Option<()> {
    let (mut parts, mut rest) = (parts, path);
    while let Some((part, after)) = parts.split_first() {
        match part {
            Part::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
            Part::Variable(variable) => {
                let end = value_end(*variable, after, rest)?;
                let (value, behind) = rest.split_at_checked(end)?;
                if value.contains('/') {
                    return None;
                }
                found.set(*variable, value);
                rest = behind;
            }
        }
        parts = after;
    }
    rest.is_empty().then_some(())
}

/// Where a variable's value ends: what follows the last one is the end of the path, and the text between two holds what a
/// port cannot, so it stands as near to the port as it can.
fn value_end(variable: Variable, after: &[Part], rest: &str) -> Option<usize> {
    match (after, variable) {
        ([], _) => Some(rest.len()),
        ([Part::Literal(tail)], _) => rest.strip_suffix(tail.as_str()).map(str::len),
        ([Part::Literal(between), ..], Variable::Port) => rest.find(between.as_str()),
        ([Part::Literal(between), tail @ ..], Variable::Host) => {
            let tail = match tail {
                [.., Part::Literal(tail)] => tail.as_str(),
                _ => "",
            };
            rest.strip_suffix(tail)?.rfind(between.as_str())
        }
        ([Part::Variable(_), ..], _) => None,
    }
}

/// Decodes a variable; only unreserved characters may stand unencoded (RFC 6570 §3.2.2).
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                out.push((digit()? << 4 | digit()?) as u8);
            }
            b'-' | b'.' | b'_' | b'~' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
