//! Parses the parameters of a connection string in both forms that libpq (Postgres' C library) accepts.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The reason why a connection string cannot be used. The error never contains the string, which may contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

impl Unreadable {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// The parameters of a connection, by the names that libpq uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters(pub(super) BTreeMap<String, String>);

impl Parameters {
    /// Parses a connection string: a URL, or `name=value` pairs.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        match text.split_once("://") {
            Some((scheme, rest)) => {
                // Ignore the name of a driver, which Python's tools add to the scheme, as in postgresql+asyncpg.
                let scheme = scheme.split_once('+').map_or(scheme, |(scheme, _)| scheme);
                if !matches!(scheme, "postgres" | "postgresql") {
                    return Err(Unreadable::new("it does not begin with postgres:// or postgresql://"));
                }
                Self::of_url(rest)
            }
            None => Self::of_pairs(text),
        }
    }

    /// Parses the part of a URL after `://`: `[user[:password]@][host[:port],...][/dbname][?name=value&...]`.
    fn of_url(text: &str) -> Result<Self, Unreadable> {
        let mut parameters = Self::default();
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (authority, database) = text.split_once('/').unwrap_or((text, ""));
        let (person, hosts) = match authority.rsplit_once('@') {
            Some((person, hosts)) => (Some(person), hosts),
            None => (None, authority),
        };
        if let Some(person) = person {
            let (user, password) = person.split_once(':').unwrap_or((person, ""));
            parameters.put("user", decoded(user)?);
            parameters.put("password", decoded(password)?);
        }
        let (names, ports) = hosts_and_ports(hosts)?;
        parameters.put("host", decoded(&names)?);
        parameters.put("port", ports);
        parameters.put("dbname", decoded(database)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Unreadable::new("behind the ? it has a parameter without a value"))?;
            match (decoded(name)?.as_str(), decoded(value)?) {
                // As in libpq, JDBC's parameter ssl=true means sslmode=require.
                ("ssl", value) if value == "true" => parameters.put("sslmode", "require".into()),
                (name, value) => parameters.put(name, value),
            }
        }
        Ok(parameters)
    }

    /// Parses pairs, such as `name=value name='value with spaces'`.
    fn of_pairs(text: &str) -> Result<Self, Unreadable> {
        let mut parameters = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, behind) = rest
                .split_once('=')
                .filter(|(name, _)| !name.trim_end().contains(char::is_whitespace))
                .ok_or_else(|| Unreadable::new("it is neither a URL nor made of name=value"))?;
            let (value, behind) = value(behind.trim_start())?;
            parameters.put(name.trim_end(), value);
            rest = behind.trim_start();
        }
        Ok(parameters)
    }

    /// Sets a parameter. If `value` is empty, changes nothing: an empty value means that the parameter is missing.
    pub fn put(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Sets a parameter, unless it has a value already.
    pub fn or_insert(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Whether the parameter has a value.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a parameter. `None`: the parameter is missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Removes a parameter and returns its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }
}

/// Splits `host[:port],...` into the hosts and the ports, each joined by commas. A host may be an IPv6 address in
/// brackets.
fn hosts_and_ports(text: &str) -> Result<(String, String), Unreadable> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in text.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (name, behind) = bracketed
                    .split_once(']')
                    .ok_or_else(|| Unreadable::new("an IPv6 address has no closing bracket"))?;
                (name, behind.strip_prefix(':').unwrap_or(""))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    let none = ports.iter().all(|port| port.is_empty());
    let ports = ports.iter().map(|port| if port.is_empty() { "5432" } else { port });
    let ports = if none {
        String::new()
    } else {
        ports.collect::<Vec<_>>().join(",")
    };
    Ok((names.join(","), ports))
}

fn decoded(text: &str) -> Result<String, Unreadable> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded
        .map_err(|_| Unreadable::new("a percent sign in it does not stand for a letter: write %25"))?
        .into_owned())
}

/// Parses the value at the start of `text`, which is the part of a connection string after `name=`. Returns the value
/// without quotes, and the rest of the text.
fn value(text: &str) -> Result<(String, &str), Unreadable> {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut letters = quoted.unwrap_or(text).char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted.is_some() => return Ok((value, &text[1 + at + 1..])),
            letter if quoted.is_none() && letter.is_whitespace() => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    match quoted {
        Some(_) => Err(Unreadable::new("a quoted value has no closing quote")),
        None => Ok((value, "")),
    }
}
