//! Reads the connection settings that libpq (Postgres' C library) finds outside the connection string: in the
//! environment, the service file and the password file.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::parameters::{Parameters, Unreadable};

/// Environment variables of libpq, each with its connection parameter. PGAPPNAME and PGCONNECT_TIMEOUT are left out,
/// because Vestnik sets its own application name and time limit.
const VARIABLES: [(&str, &str); 24] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLSNI", "sslsni"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];
/// The environment variables that select a Postgres. If one of them is set, Vestnik connects to that Postgres and
/// starts no private Postgres.
const NAMES_A_POSTGRES: [&str; 5] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE"];
/// The directories that are searched for the machine's service file `pg_service.conf`, in this order.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/etc"];
/// The directories in which a local Postgres may have its socket: the default of Debian, and the default of Postgres
/// itself.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// The directory of the user's certificate files, below the home directory.
const USER_DIRECTORY: &str = ".postgresql";

/// The environment variables of a process. They also give the paths of libpq's service file and password file.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    variables: HashMap<String, String>,
}

impl Surroundings {
    /// Uses these names and values in place of the environment variables of the process.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        // Ignore empty variables, because many tools set an empty variable to mean "none".
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Self {
            variables: variables.collect(),
        }
    }

    /// Takes the environment variables of this process.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(std::env::vars_os().filter_map(text))
    }

    /// Whether an environment variable selects a Postgres. If so, Vestnik starts no private Postgres.
    pub fn name_a_postgres(&self) -> bool {
        NAMES_A_POSTGRES.iter().any(|name| self.variables.contains_key(*name))
    }

    /// Adds parameters that the connection string lacks. A service is a named group of parameters in a file; the
    /// connection string or PGSERVICE may name one. Parameters of the service have precedence over environment
    /// variables, and these have precedence over the password file.
    pub fn fill(&self, parameters: &mut Parameters) -> Result<(), Unreadable> {
        let names_a_host = parameters.contains("host") || parameters.contains("hostaddr");
        let service = parameters.take("service").or_else(|| self.variable("PGSERVICE"));
        if let Some(service) = service {
            for (name, value) in self.service(&service)? {
                parameters.or_insert(&name, &value);
            }
        }
        for (variable, name) in VARIABLES {
            // The environment's PGHOSTADDR belongs to its PGHOST, so do not combine it with another host.
            if name == "hostaddr" && names_a_host {
                continue;
            }
            if let Some(value) = self.variable(variable) {
                parameters.or_insert(name, &value);
            }
        }
        if !parameters.contains("host") {
            let address = parameters.get("hostaddr").map(str::to_owned);
            parameters.or_insert("host", &address.unwrap_or_else(socket_directory));
        }
        let file = parameters.take("passfile").map(PathBuf::from);
        if !parameters.contains("password")
            && let Some(file) = file.or_else(|| Some(self.home()?.join(".pgpass")))
            && let Some(user) = parameters
                .get("user")
                .map(str::to_owned)
                .or_else(|| self.variable("USER"))
            && let Some(password) = password(&file, parameters, &user)
        {
            parameters.or_insert("password", &password);
        }
        Ok(())
    }

    /// The path of a file in the user's directory `.postgresql`. `None`: the file does not exist.
    pub fn user_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.home()?.join(USER_DIRECTORY).join(name);
        path.exists().then_some(path)
    }

    fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// Reads the parameters of a service, which is a named section of a service file. The user's service file has
    /// precedence over the machine's service file.
    fn service(&self, name: &str) -> Result<Vec<(String, String)>, Unreadable> {
        let own = self.variable("PGSERVICEFILE").map(PathBuf::from);
        let own = own.or_else(|| Some(self.home()?.join(".pg_service.conf")));
        let system = match self.variable("PGSYSCONFDIR") {
            Some(directory) => vec![PathBuf::from(directory)],
            None => SYSTEM_DIRECTORIES.map(PathBuf::from).to_vec(),
        };
        let system = system.into_iter().map(|directory| directory.join("pg_service.conf"));
        for file in own.into_iter().chain(system) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some(service) = section(&text, name) {
                return Ok(service);
            }
        }
        Err(Unreadable(format!(
            "there is no service {name:?} in ~/.pg_service.conf, PGSERVICEFILE or pg_service.conf of the machine"
        )))
    }
}

fn socket_directory() -> String {
    let there = SOCKET_DIRECTORIES
        .iter()
        .find(|directory| Path::new(directory).is_dir());
    there.unwrap_or(&SOCKET_DIRECTORIES[0]).to_string()
}

/// Returns the parameters in the section `[name]` of a service file. `None`: the file has no such section.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim);
    let mut lines =
        lines.skip_while(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) != Some(name));
    lines.next()?;
    let settings = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='));
    Some(
        settings
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect(),
    )
}

/// Finds the password for these parameters in a password file. As in libpq, a file that other users may read is
/// ignored.
fn password(file: &Path, parameters: &Parameters, user: &str) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "the password file is not used, for others may read it: chmod 600");
        return None;
    }
    let host = parameters.get("host")?.split(',').next()?;
    // In a password file, `localhost` also means the default socket directory.
    let host = match SOCKET_DIRECTORIES.contains(&host) {
        true => "localhost",
        false => host,
    };
    let port = parameters.get("port").and_then(|port| port.split(',').next());
    let database = parameters.get("dbname").unwrap_or(user);
    let wanted = [
        host,
        port.filter(|port| !port.is_empty()).unwrap_or("5432"),
        database,
        user,
    ];
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| password_in(line, wanted))
}

/// Parses a password file's line `host:port:database:user:password`. Returns the password if the line is for `wanted`:
/// a host, port, database and user. `None`: the line is for another connection.
fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' if fields.len() <= wanted.len() => fields.push(String::new()),
            '\\' => fields.last_mut()?.extend(letters.next()),
            letter => fields.last_mut()?.push(letter),
        }
    }
    let password = fields.pop().filter(|_| fields.len() == wanted.len())?;
    let fits = fields
        .iter()
        .zip(wanted)
        .all(|(field, wanted)| field == "*" || field == wanted);
    fits.then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_password_file_is_read_with_its_stars_and_backslashes() {
        let wanted = ["db.example", "5432", "shop", "me"];
        for (line, password) in [
            ("db.example:5432:shop:me:secret", Some("secret")),
            ("*:*:*:me:a\\:b\\\\c:d", Some("a:b\\c:d")),
            ("db.example:5433:shop:me:secret", None),
            ("# db.example:5432:shop:me:secret", None),
            ("db.example:5432:shop:me", None),
            ("", None),
        ] {
            assert_eq!(password_in(line, wanted).as_deref(), password, "{line}");
        }
    }

    #[test]
    fn a_section_of_the_service_file_ends_where_the_next_begins() {
        let text = "[other]\nhost=elsewhere\n\n[shop]\n# a word\nhost = db.example\nport=5433\n[last]\nuser=me\n";
        let shop = section(text, "shop").unwrap();
        let shop: Vec<_> = shop.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(shop, [("host", "db.example"), ("port", "5433")]);
        assert_eq!(section(text, "none"), None);
    }
}
