//! Runs the program as a user does, and checks its commands, its error messages and its first screen.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::TryRecvError;

use serde_json::Value;
use tokio::time::timeout;

use crate::support::app::{App, PATIENCE};
use crate::support::db::Database;
use crate::support::running::Running;

fn vestnik(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command.args(arguments).current_dir(std::env::temp_dir());
    for variable in ["DATABASE_URL", "VESTNIK_LISTEN", "VESTNIK_TOKEN"] {
        command.env_remove(variable);
    }
    command.env("VESTNIK_OPS_LISTEN", "127.0.0.1:0");
    command
}

fn on(database: &Database, arguments: &[&str]) -> Output {
    vestnik(arguments).env("DATABASE_URL", database.url()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn wrong_settings_are_all_said_at_once_with_exit_code_2() {
    let output = vestnik(&["serve", "--listen", "nonsense", "--set", "shop.color=red"])
        .env("VESTNIK_DATABASE_NOTIFY", "maybe")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in [
        "http.listen = \"nonsense\" (command line): an address and a port",
        "database.notify = \"maybe\" (VESTNIK_DATABASE_NOTIFY): \"on\" or \"off\"",
        "shop.color (command line): there is no such setting",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(vestnik(&["no-such-command"]).output().unwrap().status.code(), Some(2));
    assert_eq!(vestnik(&["--help"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_command_without_a_database_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let output = vestnik(&["token", "list"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("set DATABASE_URL, or start `vestnik` here"),
        "{}",
        text(&output.stderr)
    );
    let unreachable = vestnik(&["token", "list"])
        .env("DATABASE_URL", "postgres://x@127.0.0.1:1/x")
        .output()
        .unwrap();
    assert_eq!(unreachable.status.code(), Some(1));
    let said = text(&unreachable.stderr);
    assert!(
        said.contains("cannot connect to Postgres")
            && said.matches("refused").count() == 1
            && said.lines().count() == 1,
        "{said}"
    );
}

#[tokio::test]
async fn a_token_is_made_listed_and_revoked() {
    let database = Database::fresh().await;
    let output = on(
        &database,
        &[
            "token",
            "create",
            "--store",
            "7",
            "--store",
            "8",
            "--label",
            "kitchen",
            "--expires",
            "30d",
        ],
    );
    let token = text(&output.stdout);
    assert!(
        output.status.success() && token.trim_end().len() == 47 && token.starts_with("vst_"),
        "{token}"
    );
    assert_eq!(token.lines().count(), 1, "the token and nothing else");
    let list = text(&on(&database, &["token", "list"]).stdout);
    assert!(
        list.contains("kitchen") && list.contains("store 7, 8") && list.contains("valid until"),
        "{list}"
    );
    assert!(!list.contains(token.trim_end()));
    assert!(
        on(&database, &["token", "revoke", "--label", "kitchen"])
            .status
            .success()
    );
    assert!(text(&on(&database, &["token", "list"]).stdout).contains("revoked"));
    assert_eq!(
        on(&database, &["token", "revoke", "1"]).status.code(),
        Some(1),
        "there is none that is valid"
    );
    for wrong in [
        &["token", "create"][..],
        &["token", "create", "--store", "7", "--expires", "soon"],
        &["token", "revoke"],
    ] {
        assert_eq!(on(&database, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_invalid_argument_is_explained_and_exits_with_2() {
    let database = Database::fresh().await;
    for (wrong, hint) in [
        (
            &["token", "create", "--label", "x"][..],
            "<--store <STORE>|--all-stores>",
        ),
        (&["store", "set", "--store", "7", "--currency", "rubles"], "such as RUB"),
        (
            &["store", "set", "--store", "7", "--time-zone", "Mars"],
            "Europe/Moscow",
        ),
        (
            &["store", "set", "--store", "7", "--hours", "always"],
            "mon-fri=10:00-22:00",
        ),
        (
            &["store", "set", "--store", "7", "--time-zone", "UTC+3"],
            "write Europe/Moscow",
        ),
        (
            &["store", "set", "--store", "7", "--time-zone", "europe/berlin"],
            "write Europe/Berlin",
        ),
        (&["tail", "--store", "7"], "vestnik token create"),
    ] {
        let output = on(&database, wrong);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {said}");
        assert!(said.contains(hint), "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn a_table_is_attached_and_detached() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("create table tickets (no text primary key, place int, state text)")
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let attach = |arguments: &[&str]| {
        let mut command = vestnik(&[&["attach"][..], arguments].concat());
        command
            .env("DATABASE_URL", database.url())
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let triggers =
        "select count(*) from pg_trigger where tgname like 'vestnik_record_%' and tgrelid = to_regclass('tickets')";
    let triggers = async || client.query_one(triggers, &[]).await.unwrap().get::<_, i64>(0);

    // `attach` does not know the meaning of the words in the status column. It writes its questions to a file, and
    // changes nothing in the database.
    let asked = attach(&["--table", "tickets", "--kind", "order"]);
    let said = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(2), "{said}");
    assert_eq!(triggers().await, 0, "nothing was changed");
    let files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let [file] = files.as_slice() else {
        panic!("{files:?}: {said}")
    };
    assert!(said.contains(file.file_name().unwrap().to_str().unwrap()), "{said}");
    let proposal = std::fs::read_to_string(file).unwrap();
    assert!(
        proposal.contains("column = \"state\"") && proposal.contains('?'),
        "{proposal}"
    );

    let mapping = directory.path().join("tickets.toml");
    let wrong = "table = \"public.tickets\"\nkind = \"order\"\nkey = \"no\"\nstore = \"place\"\n[status]\ncolumn = \"status\"\npending = [\"new\"]\n";
    std::fs::write(&mapping, wrong).unwrap();
    let refused = attach(&["--map", "tickets.toml"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("public.tickets has no column status: it has no, place, state"),
        "{said}"
    );

    std::fs::write(&mapping, wrong.replace("column = \"status\"", "column = \"state\"")).unwrap();
    let sql = text(&attach(&["--map", "tickets.toml", "--dry-run"]).stdout);
    assert!(
        sql.contains("create or replace trigger vestnik_record_insert after insert on public.tickets"),
        "{sql}"
    );
    assert_eq!(triggers().await, 0, "nothing was changed");
    let attached = attach(&["--map", "tickets.toml"]);
    assert!(attached.status.success(), "{}", text(&attached.stderr));
    assert_eq!(triggers().await, 4);
    client
        .batch_execute("insert into tickets values ('A-1', 7, 'new')")
        .await
        .unwrap();
    let events = "select count(*) from vestnik.vst_event where store_id = '7'";
    assert_eq!(client.query_one(events, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert!(on(&database, &["detach", "--table", "tickets"]).status.success());
    assert_eq!(triggers().await, 0);
    assert_eq!(on(&database, &["detach", "--table", "tickets"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_a_line_an_event_and_comes_back() {
    let app = App::start().await;
    let url = format!("http://{}", app.engine.address());
    let start = app.panel("7", None).await.live().await.cursor;
    let mut tail = Running::start(
        vestnik(&["tail", "--store", "7", "--url", &url, "--after", &start])
            .env("VESTNIK_TOKEN", &app.token)
            .stdout(Stdio::piped()),
    );
    let mut lines = BufReader::new(tail.child.stdout.take().unwrap()).lines();
    app.write("insert into orders (store_id) values (7), (8)").await;
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&first["type"], &first["store_id"]), (&"new_order".into(), &"7".into()));
    // The node that `tail` is connected to stops, and another node starts at the same address.
    let (address, token) = (app.engine.address(), app.token.clone());
    let config = app.database.config();
    app.engine.shut_down().await;
    app.database
        .client()
        .await
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let mut config = config;
    config.http.listen = address;
    let engine = vestnik::engine::Engine::start(&config).await.unwrap();
    let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(second["data"]["order_id"], "3");
    engine.shut_down().await;
    drop(token);
}

#[tokio::test]
async fn tail_stops_where_coming_back_would_not_help() {
    let app = App::start().await;
    let url = format!("http://{}", app.engine.address());
    let tail = |token: &'static str| {
        let mut command = vestnik(&["tail", "--store", "7", "--url", &url]);
        tokio::task::spawn_blocking(move || command.env("VESTNIK_TOKEN", token).output().unwrap())
    };
    let output = tail("vst_nonsense").await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("send a valid token"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_for_what_there_is_and_is_listed_and_followed() {
    let database = Database::fresh().await;
    for (wrong, why) in [
        (&["--store", ""][..], "is no store"),
        (&["--store", " 7"], "is no store"),
        (&["--store", "7,8"], "give --store again"),
        (&["--store", "7", "--label", "a\nb"], "a label is"),
        (
            &["--store", "7", "--scope", "admin"],
            "possible values: read, panel, manager, operator",
        ),
    ] {
        let output = on(&database, &[&["token", "create"], wrong].concat());
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(why),
            "{wrong:?}: {said}"
        );
    }
    let made = on(
        &database,
        &[
            "token", "create", "--store", "7", "--store", "8", "--scope", "manager", "--label", "Office",
        ],
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let followed = on(&database, &["token", "rotate", "1", "--old-lives", "1d"]);
    assert!(text(&followed.stdout).starts_with("vst_"), "{}", text(&followed.stderr));
    assert_eq!(on(&database, &["token", "rotate", "9"]).status.code(), Some(1));
    let by_hand = "insert into vestnik.vst_token (hash, label) values (sha256('x'), E'a\\u001b[2Jb')";
    database.client().await.batch_execute(by_hand).await.unwrap();
    let list = text(&on(&database, &["token", "list"]).stdout);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    for line in &lines[..2] {
        for part in ["Office", "manager", "store 7, 8", "never used", "0 sessions"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert!(
        lines[0].contains("valid until") && !lines[1].contains("valid until"),
        "{list}"
    );
    assert!(lines[2].contains("panel") && !list.contains('\u{1b}'), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_is_a_lively_shop() {
    let app = App::start().await;
    let database = app.database.url().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        vestnik(&["simulate", "--stores", "2", "--rate", "200", "--duration", "5s"])
            .env("DATABASE_URL", database)
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let kinds = "select count(distinct type), count(*) from vestnik.vst_event";
    let row = app.database.client().await.query_one(kinds, &[]).await.unwrap();
    let (kinds, events): (i64, i64) = (row.get(0), row.get(1));
    assert!(kinds == 2 && events > 50, "{kinds} kinds, {events} events");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_says_whether_the_server_is_ready() {
    let app = App::start().await;
    let address = app.engine.ops_address().unwrap().to_string();
    let check = |address: String| async move {
        let command = move || {
            vestnik(&["healthcheck"])
                .env("VESTNIK_OPS_LISTEN", address)
                .output()
                .unwrap()
        };
        tokio::task::spawn_blocking(command).await.unwrap()
    };
    let healthy = timeout(PATIENCE, async {
        while !check(address.clone()).await.status.success() {
            app.until_ready().await;
        }
    });
    healthy.await.expect("the health check succeeds");
    app.engine.shut_down().await;
    assert_eq!(check(address).await.status.code(), Some(1));
}

/// Starts the program without any setting on a terminal, as a new user does, and reads its first screen.
fn start_alone(directory: &Path) -> (Running, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    read_screen(directory, theirs.into(), std::fs::File::from(terminal))
}

/// Starts the program with its output in a pipe instead of a terminal.
fn start_unseen(directory: &Path) -> (Running, String) {
    let (ours, theirs) = std::io::pipe().unwrap();
    read_screen(directory, theirs.into(), ours)
}

fn read_screen(directory: &Path, stdout: Stdio, shown: impl std::io::Read) -> (Running, String) {
    let running = Running::start(
        vestnik(&["serve", "--listen", "127.0.0.1:0"])
            .current_dir(directory)
            .stdout(stdout)
            .stderr(Stdio::null()),
    );
    let mut screen = String::new();
    let mut shown = BufReader::new(shown);
    while !screen.contains("set DATABASE_URL") {
        assert!(shown.read_line(&mut screen).unwrap() > 0, "the program ended: {screen}");
    }
    (running, screen.replace("\r\n", "\n"))
}

fn tokens_of(directory: &Path) -> Vec<String> {
    let output = vestnik(&["token", "list"]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_first_screen_shows_one_token_to_a_terminal_and_none_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let (running, unseen) = start_unseen(directory.path());
    assert!(
        !unseen.contains("vst_") && unseen.contains("token create --all-stores"),
        "{unseen}"
    );
    assert_eq!(tokens_of(directory.path()), Vec::<String>::new());
    running.end();

    let token_of = |screen: &str| {
        let (_, behind) = screen.split_once("&token=").expect("a token");
        behind.split_whitespace().next().unwrap().to_owned()
    };
    let (running, first) = start_alone(directory.path());
    running.end();
    let (running, second) = start_alone(directory.path());
    assert!(token_of(&first).starts_with("vst_"), "{first}");
    assert_eq!(
        token_of(&first),
        token_of(&second),
        "one, and not one more at each start"
    );
    assert_eq!(tokens_of(directory.path()).len(), 1);
    use std::os::unix::fs::PermissionsExt as _;
    let kept = directory.path().join("vestnik-data/first-screen.token");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    // After the token is revoked, the next start creates another token.
    let revoked = vestnik(&["token", "revoke", "--label", "first screen"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(revoked.status.success());
    running.end();
    let (running, third) = start_alone(directory.path());
    assert_ne!(token_of(&first), token_of(&third));
    let valid = tokens_of(directory.path())
        .iter()
        .filter(|line| line.contains("valid until"))
        .count();
    assert_eq!(valid, 1);
    running.end();
}

/// Runs a line of the program's first screen in a shell, like a user who pastes the line.
fn paste(directory: &Path, line: &str) -> Running {
    Running::start(
        Command::new("sh")
            .args(["-c", line])
            .current_dir(directory)
            .stdout(Stdio::piped()),
    )
}

/// Sends a GET as a browser does, and returns the whole response as text.
fn get(url: &str) -> String {
    use std::io::Write as _;
    let host = url.strip_prefix("http://").expect("plain HTTP");
    let mut socket = std::net::TcpStream::connect(host).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_newcomer_pastes_what_the_first_screen_says_and_sees_the_order() {
    let directory = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let (running, screen) = start_alone(directory.path());
    assert!(
        screen.lines().count() < 24
            && screen
                .lines()
                .all(|line| line.contains("psql") || line.chars().count() < 170)
    );
    let line = |part: &str| {
        screen
            .lines()
            .find(|line| line.contains(part))
            .unwrap()
            .trim()
            .to_owned()
    };
    // The panel's address opens the panel. The token follows the `#`, so a browser does not send it to the server.
    let panel = line("/#store=7&token=");
    let (address, key) = panel.split_once("/#").unwrap();
    assert!(key.starts_with("store=7&token=vst_"), "{panel}");
    assert!(get(address).contains("<title>"), "the panel is served at {address}");

    let mut tail = paste(directory.path(), &format!("exec env {}", line(" tail --store 7")));
    let (seen, events_seen) = std::sync::mpsc::channel();
    let events = BufReader::new(tail.child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || events.map_while(Result::ok).try_for_each(|event| seen.send(event)));
    // `tail` prints only events that happen after `tail` has connected. The test therefore inserts orders until `tail`
    // prints one.
    let event = loop {
        assert!(paste(directory.path(), &line("psql")).child.wait().unwrap().success());
        match events_seen.try_recv() {
            Ok(event) => break event,
            Err(error) => assert_eq!(error, TryRecvError::Empty, "`tail` has ended"),
        }
    };
    assert!(event.contains("\"new_order\"") && event.contains("Иван"), "{event}");

    // `doctor` finds no problem in the database that the program has created.
    let output = vestnik(&["doctor"]).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));

    let pid_file = directory.path().join("vestnik-data/data/postmaster.pid");
    let postmaster = |file: &Path| {
        std::fs::read_to_string(file)
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned))
    };

    // The embedded Postgres is killed. The program starts Postgres again, and `tail` misses no order.
    let killed = postmaster(&pid_file).expect("Postgres runs");
    let pid = rustix::process::Pid::from_raw(killed.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let marked = line("psql").replace("Иван", "Мария");
    while !paste(directory.path(), &marked).child.wait().unwrap().success() {}
    while !events_seen
        .recv_timeout(PATIENCE)
        .expect("the order after the restart")
        .contains("Мария")
    {}
    assert_ne!(postmaster(&pid_file), Some(killed));

    // A second program refuses to run on the same data directory.
    let output = vestnik(&["serve"]).current_dir(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("another vestnik runs on"),
        "{}",
        text(&output.stderr)
    );
    drop(tail);

    // When the program is killed, its Postgres keeps running. The next start of the program takes over this Postgres,
    // and stops it at a normal end.
    drop(running);
    let before = postmaster(&pid_file).expect("Postgres still runs");
    let (running, _) = start_alone(directory.path());
    assert_eq!(postmaster(&pid_file), Some(before));
    running.end();
    assert_eq!(postmaster(&pid_file), None);
}

#[test]
fn an_unreachable_database_is_waited_for() {
    let mut command = vestnik(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
        .stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut said = BufReader::new(running.child.stderr.take().unwrap());
    let mut log = String::new();
    while log.matches("cannot connect to Postgres").count() < 2 {
        assert!(said.read_line(&mut log).unwrap() > 0, "the program ended: {log}");
    }
    running.end();
    said.read_to_string(&mut log).unwrap();
    assert!(!log.contains("panicked") && !log.contains("backtrace"), "{log}");
}
