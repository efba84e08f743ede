//! Vestnik understands the same parameters of a Postgres URL as psql, with the same meaning.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use secrecy::SecretString;
use tempfile::TempDir;

use crate::support::db::{Database, Server};

/// A directory with keys and certificates, which openssl creates as PostgreSQL's documentation describes.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    }

    /// Creates a self-signed certificate `{name}.crt`.
    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -new -x509 -days 2 -nodes -newkey rsa:2048 -keyout {name}.key -out {name}.crt -subj /CN={name}"
        ));
    }

    /// Creates a certificate `{name}.crt` that `authority` signs. With `alternatives` (the subject alternative names),
    /// the certificate has X.509 version 3, otherwise version 1.
    fn signed(&self, name: &str, common: &str, authority: &str, alternatives: Option<&str>) {
        self.openssl(&format!(
            "req -new -nodes -newkey rsa:2048 -keyout {name}.key -out {name}.csr -subj /CN={common}"
        ));
        let extensions = alternatives.map_or(String::new(), |alternatives| {
            self.write(&format!("{name}.ext"), &format!("subjectAltName={alternatives}"));
            format!(" -extfile {name}.ext")
        });
        self.openssl(&format!(
            "x509 -req -days 2 -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -out {name}.crt{extensions}"
        ));
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts a Postgres that uses this certificate.
    fn server(&self, certificate: &str, access: &str) -> Server {
        let served = tempfile::tempdir().unwrap();
        for (from, to) in [
            (format!("{certificate}.crt"), "server.crt"),
            (format!("{certificate}.key"), "server.key"),
            ("ca.crt".to_owned(), "root.crt"),
        ] {
            if Path::new(&self.path(&from)).exists() {
                fs::copy(self.path(&from), served.path().join(to)).unwrap();
            }
        }
        let access = format!("local all all trust\n{access}\nhost all all 127.0.0.1/32 trust\n");
        fs::write(served.path().join("pg_hba.conf"), access).unwrap();
        Server::start(&[
            ("VESTNIK_TEST_FILES", served.path().to_str().unwrap()),
            ("VESTNIK_TEST_OPTIONS", "-c ssl=on -c ssl_ca_file=root.crt"),
        ])
    }
}

/// Connects to Postgres, and returns whether the connection is encrypted.
async fn reach(url: &str) -> Result<bool, String> {
    let client = vestnik::infra::db::connect_as(&SecretString::from(url), "test").await;
    let client = client.map_err(|error| error.to_string())?;
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    Ok(client.query_one(encrypted, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn each_sslmode_means_what_libpq_means_by_it() {
    let files = Files::new();
    for authority in ["ca", "stranger"] {
        files.authority(authority);
    }
    files.signed("server", "localhost", "ca", Some("DNS:localhost"));
    files.signed("me", "me", "ca", None);
    let server = files.server(
        "server",
        "hostssl all tls_only all trust\nhost all tls_only all reject\nhostnossl all plain_only all trust\n\
         host all plain_only all reject\nhostssl all me all cert\n",
    );
    for role in ["tls_only", "plain_only", "me"] {
        let admin =
            vestnik::infra::db::connect_as(&SecretString::from(format!("{}/postgres", server.address)), "test").await;
        admin
            .unwrap()
            .batch_execute(&format!("create role {role} login"))
            .await
            .unwrap();
    }
    let (port, ca, stranger) = (server.port(), files.path("ca.crt"), files.path("stranger.crt"));
    let (certificate, key) = (files.path("me.crt"), files.path("me.key"));
    let by_name = |parameters: &str| format!("postgres://postgres@localhost:{port}/postgres?{parameters}");
    let by_number = |parameters: &str| format!("postgres://postgres@127.0.0.1:{port}/postgres?{parameters}");
    let as_role = |role: &str, mode: &str| format!("postgres://{role}@127.0.0.1:{port}/postgres?sslmode={mode}");
    for (url, encrypted) in [
        (by_number(""), true),
        (by_number("sslmode=disable"), false),
        (by_number("sslmode=allow"), false),
        (by_number("sslmode=prefer"), true),
        (by_number("sslmode=require"), true),
        (by_number("ssl=true"), true),
        (by_number(&format!("sslmode=require&sslrootcert={ca}")), true),
        (by_number(&format!("sslmode=verify-ca&sslrootcert={ca}")), true),
        (by_name(&format!("sslmode=verify-full&sslrootcert={ca}")), true),
        (as_role("tls_only", "allow"), true),
        (as_role("plain_only", "prefer"), false),
        (
            format!("{}&sslcert={certificate}&sslkey={key}", as_role("me", "require")),
            true,
        ),
        (
            format!("host=localhost port={port} user=postgres sslmode=verify-full sslrootcert='{ca}'"),
            true,
        ),
    ] {
        assert_eq!(reach(&url).await, Ok(encrypted), "{url}");
    }
    for (url, says) in [
        (
            by_number(&format!("sslmode=verify-ca&sslrootcert={stranger}")),
            "nobody that sslrootcert names has signed it",
        ),
        (
            by_number(&format!("sslmode=require&sslrootcert={stranger}")),
            "nobody that sslrootcert names has signed it",
        ),
        (
            by_number(&format!("sslmode=verify-full&sslrootcert={ca}")),
            "give the host by a name of its certificate",
        ),
        (
            by_name("sslrootcert=system"),
            "nobody that sslrootcert names has signed it",
        ),
        (by_number("sslmode=verify-full"), "add sslrootcert=FILE"),
        (by_number("sslmode=require&sslrootcert=system"), "use verify-full"),
        (
            by_number("sslmode=verify-ca&sslrootcert=/nowhere.crt"),
            "sslrootcert /nowhere.crt",
        ),
        (as_role("plain_only", "require"), "pg_hba.conf"),
        (as_role("tls_only", "disable"), "pg_hba.conf"),
        (as_role("me", "require"), "certificate"),
    ] {
        let said = reach(&url).await.unwrap_err();
        assert!(said.contains(says), "{url}: {said}");
    }
}

#[tokio::test]
async fn a_certificate_made_as_the_documentation_of_postgres_shows_is_verified() {
    let files = Files::new();
    files.authority("ca");
    // The first certificate is self-signed, and names its host only in the common name. The second certificate has
    // X.509 version 1.
    files.authority("localhost");
    files.signed("old", "localhost", "ca", None);
    for (certificate, root) in [("localhost", "localhost"), ("old", "ca")] {
        let server = files.server(certificate, "");
        let (port, root) = (server.port(), files.path(&format!("{root}.crt")));
        for version in ["TLSv1.2", "TLSv1.3"] {
            let url = format!(
                "postgres://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={root}&ssl_max_protocol_version={version}"
            );
            assert_eq!(reach(&url).await, Ok(true), "{certificate} {version}");
        }
        for (url, says) in [
            (
                format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={root}"),
                "name",
            ),
            (
                format!(
                    "postgres://postgres@localhost:{port}/postgres?sslmode=verify-ca&sslrootcert={}",
                    other(&files)
                ),
                "nobody that sslrootcert names",
            ),
        ] {
            let said = reach(&url).await.unwrap_err();
            assert!(said.contains(says), "{url}: {said}");
        }
        let prefer = format!("postgres://postgres@localhost:{port}/postgres");
        assert_eq!(reach(&prefer).await, Ok(true), "{certificate}");
    }
}

/// Creates a second authority with the name of the trusted authority, and returns the path of its certificate.
fn other(files: &Files) -> String {
    files.openssl("req -new -x509 -days 2 -nodes -newkey rsa:2048 -keyout other.key -out other.crt -subj /CN=ca");
    files.path("other.crt")
}

/// Runs `vestnik token list` with an environment of only these variables.
fn list(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(["token", "list"])
        .args(arguments)
        .current_dir(std::env::temp_dir());
    command.env_clear().envs(variables.iter().copied()).output().unwrap()
}

#[tokio::test]
async fn without_a_url_a_command_finds_what_psql_finds() {
    let database = Database::fresh().await;
    let (_, host) = database.url().split_once('@').unwrap();
    let (host, name) = host.split_once('/').unwrap();
    let (host, port) = host.split_once(':').unwrap();
    let files = Files::new();
    let service = files.write(
        "services",
        &format!("[shop]\nhost={host}\nport={port}\ndbname={name}\nuser=postgres\n"),
    );
    files.write(
        ".pg_service.conf",
        &format!("[home]\nhost={host}\nport={port}\nuser=postgres\n"),
    );
    let home = files.0.path().to_str().unwrap();
    let by_host = [
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", name),
    ];
    let by_service = [("PGSERVICE", "shop"), ("PGSERVICEFILE", &service)];
    let by_home = [("PGSERVICE", "home"), ("PGDATABASE", name), ("HOME", home)];
    for variables in [by_host.as_slice(), &by_service, &by_home] {
        let output = list(&[], variables);
        assert!(output.status.success(), "{variables:?}: {output:?}");
    }
    let output = list(&[], &[("PGSERVICE", "nowhere"), ("PGSERVICEFILE", &service)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no service \"nowhere\""), "{said}");
}

#[tokio::test]
async fn a_password_comes_from_the_password_file_unless_others_may_read_it() {
    let files = Files::new();
    files.authority("ca");
    files.signed("server", "localhost", "ca", Some("DNS:localhost"));
    let server = files.server("server", "host all guarded all scram-sha-256\n");
    let admin = format!("{}/postgres", server.address);
    let admin = vestnik::infra::db::connect_as(&SecretString::from(admin), "test")
        .await
        .unwrap();
    admin
        .batch_execute("create role guarded login password 'open : sesame'")
        .await
        .unwrap();
    let line = format!("localhost:{}:*:guarded:open \\: sesame\n", server.port());
    let passwords = files.write("passwords", &format!("*:1:*:*:wrong\n{line}"));
    let url = format!(
        "postgres://guarded@localhost:{}/postgres?passfile={passwords}",
        server.port()
    );
    // The connection uses TLS, so that channel binding ties the password to the server's certificate.
    assert_eq!(reach(&url).await, Ok(true));
    assert_eq!(reach(&format!("{url}&sslmode=disable")).await, Ok(false));
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).unwrap();
    let said = reach(&url).await.unwrap_err();
    assert!(said.contains("password"), "{said}");
}

#[tokio::test]
async fn parameters_of_other_tools_are_ignored_with_a_warning_that_names_them() {
    let database = Database::fresh().await;
    let url = format!("{}?schema=public&pgbouncer=true&connection_limit=5", database.url());
    let output = list(&[], &[("DATABASE_URL", &url)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("are ignored: connection_limit, pgbouncer, schema"),
        "{said}"
    );
}
