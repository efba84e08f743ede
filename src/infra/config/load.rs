//! Reads the settings from all their sources. Reports all invalid settings together, so that a person can correct all
//! of them before the next start.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use toml::{Table, Value};

use super::{Config, Database, Embedded, Journal, Log, LogFormat, Notify, Shop, ShopSchema, Webhook};
use crate::infra::db::{Address, Surroundings, Unreadable};

const DEFAULTS: &str = include_str!("../../../vestnik.default.toml");
/// The settings file that is read if it exists and the command line names no other file.
const USUAL_FILE: &str = "vestnik.toml";
/// Short names of environment variables, each with the setting whose value the variable contains.
const SHORT_NAMES: [(&str, &str); 2] = [("VESTNIK_LISTEN", "http.listen"), ("DATABASE_URL", "database.url")];
/// The connection string for a Postgres that the environment selects, if no database URL is set. The environment
/// selects a Postgres by variables of libpq (Postgres' C library), such as PGHOST.
const EVERYTHING_FROM_THE_ENVIRONMENT: &str = "postgresql://";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The places from which settings are read, in addition to the defaults. A value from the command line overrides the
/// environment, and a value from the environment overrides the file.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The path of the settings file. `None`: no file is read.
    pub file: Option<PathBuf>,
    /// Names and values of environment variables. Variables that are not settings are ignored.
    pub environment: Vec<(String, String)>,
    /// Names (`section.key`) and values of settings from the command line.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The sources of this process. The settings file is `file` (from `--config FILE`). If `file` is `None`, the
    /// settings file is `./vestnik.toml`. If that does not exist, no settings file is read.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|usual| usual.exists());
        Self {
            file: file.or_else(usual),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags,
        }
    }
}

/// One invalid setting, and an explanation for the person who corrects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name, `section.key`.
    pub name: String,
    /// The given value. `None`: the value is missing, or is not shown because it may be secret.
    pub value: Option<String>,
    /// The source of the value: a file, an environment variable or the command line.
    pub place: String,
    /// The allowed values, or the cause of the error, for the person who corrects the setting.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.place, self.allowed)
    }
}

/// All invalid settings that [`load`] has found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be used:\n{}", if .0.len() == 1 { "a setting" } else { "some settings" },
    .0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

/// Reads the settings from these sources and checks them. An error lists all invalid settings.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut reading = Reading {
        surroundings: Surroundings::new(sources.environment.iter().cloned()),
        ..Reading::default()
    };
    reading.put_text(DEFAULTS, "vestnik.default.toml", SettingNames::Define);
    if let Some(file) = &sources.file {
        match std::fs::read_to_string(file) {
            Ok(text) => reading.put_text(&text, &file.display().to_string(), SettingNames::MustExist),
            Err(error) => reading.complain("--config", None, &file.display().to_string(), &error.to_string()),
        }
    }
    for (variable, value) in &sources.environment {
        let short = SHORT_NAMES.iter().find(|(short, _)| short == variable);
        let name = match short {
            Some((_, name)) => Some((*name).to_owned()),
            None => reading.name_of(variable),
        };
        // Ignore an empty variable, because many tools set an empty variable to mean "none".
        if let Some(name) = name.filter(|_| !value.is_empty()) {
            reading.put(&name, Value::String(value.clone()), variable);
        }
    }
    for (name, value) in &sources.flags {
        if reading.values.contains_key(name) {
            reading.put(name, Value::String(value.clone()), "command line");
        } else {
            reading.unknown(name, "command line");
        }
    }
    let config = reading.config();
    if reading.problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems(reading.problems))
    }
}

/// Whether a source of settings may contain unknown names. `vestnik.default.toml` defines all names. Every other source
/// may use only these names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SettingNames {
    Define,
    MustExist,
}

#[derive(Default)]
pub(super) struct Reading {
    /// The value of each setting, and the source of the value. The key is the setting's name, `section.key`.
    pub(super) values: BTreeMap<String, (Value, String)>,
    problems: Vec<Problem>,
    /// The environment variables and files from which the missing parts of a Postgres URL are taken, as in libpq.
    pub(super) surroundings: Surroundings,
}

impl Reading {
    fn put_text(&mut self, text: &str, place: &str, names: SettingNames) {
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                // Do not show the line itself, because it may contain a password.
                let line = error
                    .span()
                    .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
                return self.complain(&format!("line {line}"), None, place, error.message());
            }
        };
        for (section, keys) in table {
            let Value::Table(keys) = keys else {
                self.put_named(&section, keys, place, names);
                continue;
            };
            for (key, value) in keys {
                self.put_named(&format!("{section}.{key}"), value, place, names);
            }
        }
    }

    fn put_named(&mut self, name: &str, value: Value, place: &str, names: SettingNames) {
        if names == SettingNames::MustExist && !self.values.contains_key(name) {
            self.unknown(name, place);
        } else {
            self.put(name, value, place);
        }
    }

    fn put(&mut self, name: &str, value: Value, place: &str) {
        self.values.insert(name.to_owned(), (value, place.to_owned()));
    }

    /// Returns the name of the setting that the environment variable `VESTNIK_SECTION_KEY` sets. `None`: the variable
    /// sets no setting.
    fn name_of(&self, variable: &str) -> Option<String> {
        let wanted = variable.strip_prefix("VESTNIK_")?;
        let named = |name: &&String| name.replace('.', "_").eq_ignore_ascii_case(wanted);
        self.values.keys().find(named).cloned()
    }

    fn unknown(&mut self, name: &str, place: &str) {
        self.complain(
            name,
            None,
            place,
            "there is no such setting; vestnik.default.toml lists them all",
        );
    }

    pub(super) fn complain(&mut self, name: &str, value: Option<&Value>, place: &str, allowed: &str) {
        self.problems.push(Problem {
            name: name.to_owned(),
            value: value.map(ToString::to_string),
            place: place.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    /// Reports that the value of this setting contradicts another setting. `allowed` describes the valid values.
    pub(super) fn complain_of(&mut self, name: &str, allowed: &str) {
        if let Some((value, place)) = self.values.get(name).cloned() {
            self.complain(name, Some(&value), &place, allowed);
        }
    }

    /// Parses the value of the setting `name` with `read`. If `read` returns `None`, reports the setting as invalid;
    /// the report contains `allowed`.
    pub(super) fn get<T>(&mut self, name: &str, allowed: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let (value, place) = self.values.get(name).cloned()?;
        let read = read(&value);
        if read.is_none() {
            self.complain(name, Some(&value), &place, allowed);
        }
        read
    }

    pub(super) fn text(&mut self, name: &str) -> String {
        self.get(name, "text", |value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    fn path(&mut self, name: &str) -> PathBuf {
        let not_empty = |value: &Value| value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
        self.get(name, "a path", not_empty).unwrap_or_default()
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<i64>) -> u64 {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let read = |value: &Value| match value {
            Value::Integer(number) => Some(*number),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let read = |value: &Value| read(value).filter(|number| range.contains(number));
        self.get(name, &allowed, read).map_or(0, i64::unsigned_abs)
    }

    pub(super) fn truth(&mut self, name: &str) -> bool {
        let read = |value: &Value| match value {
            Value::Boolean(truth) => Some(*truth),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        self.get(name, "true or false", read).unwrap_or_default()
    }

    fn one_of<T: Copy>(&mut self, name: &str, words: [(&str, T); 2]) -> T {
        let allowed = format!("{:?} or {:?}", words[0].0, words[1].0);
        let read = |value: &Value| {
            words
                .iter()
                .find(|(word, _)| value.as_str() == Some(word))
                .map(|(_, read)| *read)
        };
        self.get(name, &allowed, read).unwrap_or(words[0].1)
    }

    /// Parses a Postgres URL. The report of an invalid URL leaves out its text, because it may contain a password.
    /// `None`: no URL is set.
    fn database_url(&mut self, name: &str) -> Option<SecretString> {
        let (value, place) = self.values.get(name).cloned()?;
        let url = value.as_str().unwrap_or_default();
        if value.is_str() && url.is_empty() {
            return None;
        }
        let url = SecretString::from(url);
        if let Err(Unreadable(why)) = Address::read(&url, &self.surroundings) {
            let allowed = format!("the URL of a Postgres, such as postgres://user:password@host:5432/name: {why}");
            self.complain(name, None, &place, &allowed);
        }
        Some(url)
    }

    /// Returns a connection string without any part of the address. All parts then come from the environment, as for
    /// psql without arguments. Reports a problem if the environment is invalid.
    fn database_of_the_environment(&mut self) -> Option<SecretString> {
        let url = SecretString::from(EVERYTHING_FROM_THE_ENVIRONMENT);
        if let Err(Unreadable(why)) = Address::read(&url, &self.surroundings) {
            self.complain("database.url", None, "PGHOST, PGSERVICE, ...", &why);
        }
        Some(url)
    }

    fn database(&mut self) -> Database {
        Database {
            url: self.database_url("database.url"),
            listen_url: self.database_url("database.listen_url"),
            notify: self.one_of("database.notify", [("on", Notify::On), ("off", Notify::Off)]),
            notify_lock_key: self.number("database.notify_lock_key", 1..=i32::MAX.into()) as i32,
            notify_queue_limit: self.number("database.notify_queue_percent", 1..=90) as f64 / 100.0,
            fallback_poll_interval: Duration::from_millis(
                self.number("database.fallback_poll_interval_ms", 50..=3_600_000),
            ),
            pool_size: self.number("database.pool_size", 2..=1000) as usize,
            token_pool_size: self.number("database.token_pool_size", 1..=1000) as usize,
            read_pool_size: self.number("database.read_pool_size", 1..=1000) as usize,
            migrate_on_start: self.truth("database.migrate_on_start"),
        }
    }

    fn config(&mut self) -> Config {
        let filter = |value: &Value| {
            let text = value.as_str()?;
            tracing_subscriber::EnvFilter::try_new(text)
                .ok()
                .map(|_| text.to_owned())
        };
        let (mut database, telegram) = (self.database(), self.telegram());
        let databases = self.read_databases(&database, &telegram);
        if databases.is_empty() && database.url.is_none() && self.surroundings.name_a_postgres() {
            database.url = self.database_of_the_environment();
        }
        Config {
            databases,
            telegram: telegram.is_on().then_some(telegram),
            http: self.http(),
            ops: self.ops(),
            tls: self.tls(),
            jwt: self.jwt(),
            database,
            embedded: Embedded {
                directory: self.path("embedded.directory"),
            },
            shop: Shop {
                schema: self.one_of(
                    "shop.schema",
                    [("reference", ShopSchema::Reference), ("own", ShopSchema::Own)],
                ),
                backup_directory: self.path("shop.backup_directory"),
            },
            journal: Journal {
                retention: DAY * self.number("journal.retention_days", 1..=3650) as u32,
                reconcile_interval: match self.number("journal.reconcile_interval_seconds", 0..=86_400) {
                    0 => None,
                    seconds => Some(Duration::from_secs(seconds)),
                },
            },
            session: self.session(),
            webhook: Webhook {
                allow_private: self.truth("webhook.allow_private"),
            },
            answers: self.answers(),
            log: Log {
                filter: self
                    .get(
                        "log.filter",
                        "a tracing filter, such as info,vestnik::feed=debug",
                        filter,
                    )
                    .unwrap_or_default(),
                format: self.one_of("log.format", [("text", LogFormat::Text), ("json", LogFormat::Json)]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[(&str, &str)]) -> Sources {
        Sources {
            flags: flags
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn the_default_file_holds_good_settings() {
        let config = Config::default();
        assert_eq!(config.http.listen.port(), 8000);
        assert!(config.database.url.is_none() && config.tls.is_none());
        assert_eq!(config.journal.retention, DAY * 30);
    }

    #[test]
    fn a_later_source_wins() {
        let mut sources = flags(&[("http.listen", "127.0.0.1:3")]);
        sources.environment = vec![
            ("VESTNIK_LISTEN".into(), "127.0.0.1:2".into()),
            ("VESTNIK_SESSION_MAX_PER_STORE".into(), "5".into()),
            ("VESTNIK_TLS_KEY".into(), String::new()),
            ("VESTNIK_SERVICE_HOST".into(), "10.0.0.1".into()),
        ];
        let config = load(&sources).unwrap();
        assert_eq!(config.http.listen.port(), 3);
        assert_eq!((config.session.max_per_store, config.session.max_per_token), (5, 2));
    }

    #[test]
    fn an_origin_is_of_the_web_or_of_an_application_and_a_wildcard_is_refused_with_its_reason() {
        for good in [
            "https://panel.example",
            "http://tauri.localhost",
            "tauri://localhost",
            "capacitor://localhost",
        ] {
            let config = load(&flags(&[("http.allowed_origins", good)])).unwrap();
            assert_eq!(config.http.allowed_origins, [good]);
        }
        for wrong in ["*", "https://*", "https://*.example", "file://", "null"] {
            let problems = load(&flags(&[("http.allowed_origins", wrong)]))
                .unwrap_err()
                .to_string();
            assert!(problems.contains("wildcard"), "{wrong}: {problems}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let sources = flags(&[
            ("http.listen", "nonsense"),
            ("database.notify", "maybe"),
            ("journal.retention_days", "0"),
            ("http.allowed_origins", "https://panel.example/path"),
            ("tls.certificate", "/nowhere.pem"),
            ("log.filter", "=="),
            ("shop.color", "red"),
        ]);
        let Problems(problems) = load(&sources).unwrap_err();
        let mut names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
        names.sort_unstable();
        let wrong = [
            "database.notify",
            "http.allowed_origins",
            "http.listen",
            "journal.retention_days",
            "log.filter",
            "shop.color",
            "tls.certificate",
            "tls.key",
        ];
        assert_eq!(names, wrong);
        let listen = problems
            .iter()
            .find(|problem| problem.name == "http.listen")
            .unwrap()
            .to_string();
        assert_eq!(
            listen,
            "http.listen = \"nonsense\" (command line): an address and a port, such as 127.0.0.1:8000"
        );
    }

    #[test]
    fn the_environment_of_libpq_names_a_database_where_no_setting_does() {
        let variable = |name: &str, value: &str| Sources {
            environment: vec![(name.into(), value.into())],
            ..Sources::default()
        };
        for (name, value) in [("PGHOST", "db.example"), ("PGDATABASE", "shop"), ("PGPORT", "5433")] {
            assert!(load(&variable(name, value)).unwrap().database.url.is_some(), "{name}");
        }
        // PGUSER alone does not select a Postgres, because it may be set for any database.
        assert!(load(&variable("PGUSER", "me")).unwrap().database.url.is_none());
        let mut given = variable("PGHOST", "db.example");
        given.flags = vec![("database.url".into(), "postgres://else.example/shop".into())];
        use secrecy::ExposeSecret as _;
        let url = load(&given).unwrap().database.url.unwrap();
        assert_eq!(url.expose_secret(), "postgres://else.example/shop");
    }

    #[test]
    fn a_service_that_is_not_there_is_said_with_the_settings() {
        let sources = Sources {
            environment: vec![
                ("PGSERVICE".into(), "nowhere".into()),
                ("HOME".into(), "/nonexistent".into()),
            ],
            ..Sources::default()
        };
        let problems = load(&sources).unwrap_err().to_string();
        assert!(problems.contains("\"nowhere\""), "{problems}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let problems = load(&flags(&[("database.url", "postgres://me:secret@host:notaport/x")])).unwrap_err();
        assert!(!problems.to_string().contains("secret"), "{problems}");
    }
}
