//! Parses a connection string in both forms that libpq (Postgres' C library) accepts, and adds the parameters that the
//! string lacks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::Host;

use super::libpq::Surroundings;
use super::parameters::{Parameters, Unreadable};
use super::tls::Tls;

/// Parameters that Vestnik passes to tokio-postgres. Vestnik handles, rejects or ignores all other parameters itself.
const TAKEN: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];
/// Parameters that Vestnik does not support and must not ignore: without them, the connection would be less safe than
/// the operator requested. A connection string with such a parameter is rejected, unless the parameter has one of the
/// listed values.
const NOT_TO_IGNORE: [(&str, &[&str]); 5] = [
    ("requirepeer", &[]),
    ("require_auth", &[]),
    ("gssencmode", &["disable", "prefer"]),
    ("sslcrldir", &[]),
    ("sslpassword", &[]),
];
/// Parameters of libpq that have no effect in Vestnik and are ignored without a message.
const WITHOUT_MEANING: [&str; 6] = [
    "fallback_application_name",
    "client_encoding",
    "sslcompression",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
];

/// The address of a Postgres server, and how to connect to it.
#[derive(Clone)]
pub struct Address {
    /// The configuration for tokio-postgres. Before each attempt to connect, `ssl_mode` is set to the mode of this
    /// attempt.
    pub config: tokio_postgres::Config,
    /// How the connection is encrypted, and how the server is verified.
    pub tls: Tls,
    /// Names of ignored parameters that the operator should know about, such as Prisma's `schema`.
    pub ignored: Vec<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}

impl Address {
    /// Parses a connection string. Parameters that the string lacks come from `surroundings`: environment variables and
    /// libpq's files.
    pub fn read(text: &SecretString, surroundings: &Surroundings) -> Result<Self, Unreadable> {
        let mut parameters = Parameters::read(text.expose_secret())?;
        surroundings.fill(&mut parameters)?;
        for (name, harmless) in NOT_TO_IGNORE {
            if parameters
                .take(name)
                .is_some_and(|value| !harmless.contains(&value.as_str()))
            {
                return Err(Unreadable(format!(
                    "{name} is not supported, and must not be ignored: leave it out"
                )));
            }
        }
        let mut tls = Tls::read(&mut parameters, surroundings)?;
        let (taken, others): (BTreeMap<_, _>, BTreeMap<_, _>) = parameters
            .0
            .into_iter()
            .partition(|(name, _)| TAKEN.contains(&name.as_str()));
        let config =
            tokio_postgres::Config::from_str(&as_pairs(&taken)).map_err(|error| Unreadable(super::reason(&error)))?;
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            tls.not_over_a_socket();
        }
        let ignored = others
            .into_keys()
            .filter(|name| !WITHOUT_MEANING.contains(&name.as_str()));
        Ok(Self {
            config,
            tls,
            ignored: ignored.collect(),
        })
    }

    /// The environment variables with which another Postgres program, such as pg_dump, connects to this address. The
    /// caller must remove PGSERVICE, because the settings of a service would override these variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let host = self.config.get_hosts().first().map(|host| match host {
            Host::Tcp(host) => host.clone(),
            Host::Unix(directory) => directory.display().to_string(),
        });
        let password = self.config.get_password();
        let of_config = [
            ("PGHOST", host),
            (
                "PGHOSTADDR",
                self.config.get_hostaddrs().first().map(ToString::to_string),
            ),
            ("PGPORT", self.config.get_ports().first().map(ToString::to_string)),
            ("PGUSER", text(self.config.get_user())),
            ("PGDATABASE", text(self.config.get_dbname().or(self.config.get_user()))),
            (
                "PGPASSWORD",
                password.map(|password| String::from_utf8_lossy(password).into_owned()),
            ),
        ];
        let of_config = of_config.into_iter().filter_map(|(name, value)| Some((name, value?)));
        of_config.chain(self.tls.variables()).collect()
    }
}

fn as_pairs(parameters: &BTreeMap<String, String>) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{name}='{}'", quoted(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Address, Unreadable> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Address::read(&SecretString::from(text), &Surroundings::new(variables))
    }

    fn of(text: &str) -> BTreeMap<String, String> {
        Parameters::read(text).unwrap().0
    }

    #[test]
    fn both_forms_of_a_connection_string_say_the_same() {
        let url = of("postgresql://me:p%40ss%20word@db.example:5433/shop?sslmode=require&options=-c%20a%3Db");
        let pairs = of(
            r"user=me password='p@ss word'  host = db.example port=5433 dbname=shop sslmode=require options='-c a=b'",
        );
        assert_eq!(url, pairs);
        assert_eq!(url["password"], "p@ss word");
        assert_eq!(of(r"password='it\'s \\ me'")["password"], r"it's \ me");
        for text in ["postgres+psycopg://h/d", "postgresql+asyncpg://h/d"] {
            assert_eq!(of(text)["dbname"], "d");
        }
        assert_eq!(of("postgres://me:a@b@h/d")["password"], "a@b");
    }

    #[test]
    fn several_hosts_ports_and_brackets_are_taken_apart() {
        let url = of("postgres://a,b:5433,[::1]:5434/d");
        assert_eq!(
            (url["host"].as_str(), url["port"].as_str()),
            ("a,b,::1", "5432,5433,5434")
        );
        assert_eq!(of("postgres://%2Frun%2Fpg/d")["host"], "/run/pg");
        assert!(!of("postgres:///d").contains_key("host"));
    }

    #[test]
    fn what_it_does_not_say_comes_from_the_environment_and_what_it_says_does_not() {
        let variables = [
            ("PGHOST", "env.example"),
            ("PGHOSTADDR", "10.0.0.1"),
            ("PGPORT", "5444"),
            ("PGUSER", "them"),
            ("PGPASSWORD", "secret"),
        ];
        let address = read("postgres://me@db.example/shop", &variables).unwrap();
        assert_eq!(address.config.get_hosts(), [Host::Tcp("db.example".into())]);
        assert!(
            address.config.get_hostaddrs().is_empty(),
            "PGHOSTADDR belongs to PGHOST"
        );
        assert_eq!(address.config.get_ports(), [5444]);
        assert_eq!(address.config.get_user(), Some("me"));
        assert_eq!(address.config.get_password(), Some("secret".as_bytes()));
        let address = read("", &variables).unwrap();
        assert_eq!(address.config.get_hosts(), [Host::Tcp("env.example".into())]);
        assert_eq!(address.config.get_user(), Some("them"));
    }

    #[test]
    fn parameters_of_other_tools_are_ignored_and_named() {
        let text =
            "postgres://me@h/d?schema=public&pgbouncer=true&connection_limit=5&pool_timeout=10&client_encoding=utf8";
        let address = read(text, &[]).unwrap();
        assert_eq!(
            address.ignored,
            ["connection_limit", "pgbouncer", "pool_timeout", "schema"]
        );
    }

    #[test]
    fn what_makes_a_connection_safer_is_refused_rather_than_ignored() {
        for text in [
            "postgres://h/d?requirepeer=postgres",
            "postgres://h/d?gssencmode=require",
        ] {
            assert!(read(text, &[]).unwrap_err().0.contains("must not be ignored"), "{text}");
        }
        read("postgres://h/d?gssencmode=prefer", &[]).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_said_without_the_password() {
        for text in [
            "mysql://me:hunter2@h/d",
            "me:hunter2@h",
            "postgres://me:hunter2@h:port/d",
            "postgres://me:hunter2@h/d?sslmode=maybe",
            "password='hunter2",
            "postgres://me:hunter2@h/d?x",
        ] {
            let said = read(text, &[]).unwrap_err().to_string();
            assert!(!said.is_empty() && !said.contains("hunter2"), "{text}: {said}");
        }
    }
}
