//! The connections of the server: the deadlines of a request from its first byte on, limits, TLS, and the IP addresses
//! of clients.

use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use vestnik::infra::config::Tls;
use vestnik::token::Stores;

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::http::{Answer, answer};
use crate::support::node::Node;
use crate::support::tls::secured;
use crate::support::{in_rounds, within};

/// The longest time that a client may take for each part of a request. `GRACE` is a margin for a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(60);
const WRONG: &str = "vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn connect(app: &App) -> TcpStream {
    TcpStream::connect(app.engine.address()).await.unwrap()
}

/// Reads the bytes that the server sends until it closes the connection.
async fn rest(socket: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // The server may also reset the connection.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest))
        .await
        .expect("the server closes the connection");
    rest
}

/// Creates a self-signed certificate. Returns the paths of the certificate and its key, and the certificate that a
/// client must trust.
pub fn certificate(directory: &std::path::Path) -> (Tls, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tls = Tls {
        certificate: directory.join("c.pem"),
        key: directory.join("k.pem"),
    };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    (tls, made.cert.der().clone())
}

/// Sends `first`, and then `drip` at one byte per second. Returns the time from `began` until the server closes the
/// connection. `began` is a moment before the client connected, so the result is never less than the server's time.
async fn closed_after(
    began: Instant,
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    first: &[u8],
    drip: &[u8],
) -> Duration {
    socket.write_all(first).await.unwrap();
    let mut drips = drip.iter();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut came = [0; 4096];
    loop {
        tokio::select! {
            read = socket.read(&mut came) => if !matches!(read, Ok(1..)) { return began.elapsed() },
            _ = tick.tick() => if let Some(byte) = drips.next() {
                let _ = socket.write_all(&[*byte]).await;
            },
            () = tokio::time::sleep_until(began + DEADLINE + GRACE) => panic!("the connection is still open: {:?}", std::str::from_utf8(first)),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_let_go_after_ten_seconds_wherever_it_stops() {
    let app = App::start().await;
    let drip = [b'x'; 60];
    let post = format!(
        "POST /api/partner/stores/7/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 4000\r\n\r\n",
        app.token
    );
    let idle: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let cases: [(&[u8], &[u8]); 7] = [
        (b"", b""),
        (b"P", b""),
        (b"G", b""),
        (b"PRI * HTTP", b""),
        (b"GET / HTTP/1.1\r\nX: ", &drip),
        (post.as_bytes(), &drip),
        (idle, b""),
    ];
    let closed = cases.map(|(first, drip)| async {
        let began = Instant::now();
        closed_after(began, connect(&app).await, first, drip).await
    });
    for (after, (first, _)) in join_all(closed).await.into_iter().zip(cases) {
        let first = String::from_utf8_lossy(first);
        assert!(
            after >= DEADLINE - Duration::from_millis(500),
            "{first:?} after {after:?}"
        );
    }
}

#[tokio::test]
async fn with_tls_the_deadline_is_the_same_and_counts_the_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(directory.path());
    let app = App::start_secure(tls, trusted.clone()).await;
    let silent = async {
        let began = Instant::now();
        closed_after(began, connect(&app).await, b"", b"").await
    };
    // The client begins the handshake late. If the handshake did not count, the deadline would begin after it.
    let after_handshake = in_rounds(async || {
        let began = Instant::now();
        let socket = connect(&app).await;
        tokio::time::sleep(DEADLINE / 2).await;
        let socket = secured(socket, &trusted).await.ok()?;
        let after = closed_after(began, socket, b"", b"").await;
        (after < DEADLINE + DEADLINE / 2).then_some(after)
    });
    let (silent, after_handshake) = tokio::join!(silent, after_handshake);
    for after in [silent, after_handshake] {
        assert!(after >= DEADLINE - Duration::from_millis(500), "{after:?}");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let app = App::start().await;
    let mut socket = connect(&app).await;
    let request = b"GET /panel/panel.css HTTP/1.1\r\nHost: x\r\n\r\n";
    let size = app
        .exchange(b"GET /panel/panel.css HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .len();
    // Send so many requests that their responses do not fit into all buffers together.
    let requests = 64 * 1024 * 1024 / size;
    let (mut reading, mut writing) = socket.split();
    let asked = async {
        for _ in 0..requests {
            if writing.write_all(request).await.is_err() {
                break;
            }
        }
    };
    let before = app
        .metric("vestnik_connections_timed_out_total{waited_for=\"write\"}")
        .await;
    let _ = timeout(DEADLINE + GRACE, asked).await;
    app.until_metric("vestnik_connections_timed_out_total{waited_for=\"write\"}", |count| {
        count > before
    })
    .await;
    let came = rest(&mut reading).await.len();
    assert!(came < requests * size / 2, "{came} of {}", requests * size);
}

#[tokio::test]
async fn http_2_is_refused_with_400_plain_and_over_tls() {
    let app = App::start().await;
    let mut socket = connect(&app).await;
    socket.write_all(PREFACE).await.unwrap();
    let refused = answer(&rest(&mut socket).await);
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_protocol"));

    let directory = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(directory.path());
    let secure = App::start_secure(tls, trusted.clone()).await;
    let mut socket = secured(connect(&secure).await, &trusted).await.unwrap();
    socket.write_all(PREFACE).await.unwrap();
    assert_eq!(answer(&rest(&mut socket).await).status, 400);
}

#[tokio::test]
async fn silent_connections_make_room_for_new_ones_and_sessions_never_do() {
    let app = App::start_with(|config| config.http.max_unauthenticated_per_address = 20).await;
    let mut panel = app.panel("7", None).await.live().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect(&app).await);
    }
    // A new panel can connect, although there are many silent connections.
    let mut newcomer = app.panel("7", None).await.live().await;
    for mut oldest in silent.drain(..70) {
        let refused = answer(&rest(&mut oldest).await);
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
        assert_eq!(refused.code(), "too_many_connections");
    }
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["type"], "new_order");
    assert_eq!(newcomer.event().await["type"], "new_order");
    assert!(
        app.metric("vestnik_connections_closed_for_others_total{limit=\"address\"}")
            .await
            >= 70.0
    );
}

#[tokio::test]
async fn without_a_free_place_a_client_is_asked_to_come_back() {
    let app = App::start_with(|config| config.http.max_connections = 2).await;
    let mut first = app.panel("7", None).await.live().await;
    let second = app.panel("7", None).await.live().await;
    let refused = with_token(&app, &app.token, &[]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.code(), "too_many_connections");
    assert!(app.try_panel("7", None, &app.token).await.is_err());
    // `/healthz` works although there are many silent connections. `/readyz` has a separate address, the address for
    // operators.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect(&app).await);
    }
    assert_eq!(app.get("/healthz", None).await.0, 200);
    app.until_ready().await;
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(first.event().await["type"], "new_order");
    drop(second);
    timeout(PATIENCE, async {
        while app.try_panel("7", None, &app.token).await.is_err() {}
    })
    .await
    .expect("the place of the one that left");
    assert!(app.metric("vestnik_connections_refused_total{why=\"full\"}").await >= 2.0);
}

async fn with_token(app: &App, token: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [&[("Authorization", bearer.as_str())], headers].concat();
    app.call("GET", "/api/partner/session/7", &headers, None).await
}

#[tokio::test]
async fn an_address_that_tries_tokens_is_slowed_down_and_a_good_token_passes_all_the_same() {
    let app = App::start_with(|config| config.http.requests_per_address = 1).await;
    let tries = join_all((0..40).map(|_| with_token(&app, WRONG, &[]))).await;
    let statuses = |status: u16| tries.iter().filter(|tried| tried.status == status).count();
    assert!(
        statuses(401) >= 20 && statuses(429) >= 10,
        "{} {}",
        statuses(401),
        statuses(429)
    );
    let refused = tries.iter().find(|tried| tried.status == 429).unwrap();
    assert_eq!(refused.code(), "too_many_requests");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(with_token(&app, &app.token, &[]).await.status, 200);
    app.panel("7", None).await.live().await;
    // The liveness check still works.
    assert_eq!(app.get("/healthz", None).await.0, 200);
    assert!(app.metric("vestnik_requests_refused_total{limit=\"address\"}").await >= 10.0);
    assert!(app.metric("vestnik_tokens_refused_total{why=\"unknown\"}").await >= 40.0);
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_are_distinguished_and_nobody_else_can_forge_an_address() {
    let trusting = App::start_with(|config| {
        config.http.requests_per_address = 1;
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    async fn forwarded(app: &App, client: &str) -> Answer {
        with_token(app, WRONG, &[("X-Forwarded-For", client)]).await
    }
    let tries = join_all((0..30).map(|_| forwarded(&trusting, "198.51.100.7"))).await;
    assert!(tries.iter().any(|tried| tried.status == 429));
    assert_eq!(forwarded(&trusting, "198.51.100.8").await.status, 401);
    let spoofed = (0..10).map(|number| {
        let (client, app) = (format!("203.0.113.{number}, 198.51.100.7"), &trusting);
        async move { forwarded(app, &client).await }
    });
    let spoofed = join_all(spoofed).await;
    let only_the_last = "only what the proxy itself adds counts";
    assert!(spoofed.iter().any(|tried| tried.status == 429), "{only_the_last}");

    let direct = App::start_with(|config| config.http.requests_per_address = 1).await;
    let clients = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
    let tries = join_all((0..30).map(|number| forwarded(&direct, clients[number % 3]))).await;
    assert!(tries.iter().any(|tried| tried.status == 429));
}

#[tokio::test]
async fn silent_connections_through_a_trusted_proxy_keep_nobody_out() {
    let app = App::start_with(|config| {
        config.http.max_connections = 60;
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut panel = app.panel("7", None).await.live().await;
    // The server closes silent connections for a newcomer, before their deadline ends.
    let (newcomer, silent) = in_rounds(async || {
        let silent = join_all((0..150).map(|_| connect(&app))).await;
        Some((within(DEADLINE / 2, app.panel("7", None)).await?, silent))
    })
    .await;
    let mut newcomer = newcomer.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["type"], "new_order");
    assert_eq!(newcomer.event().await["type"], "new_order");
    drop(silent);
}

/// The code of the timer that `/proc/net/tcp` shows for the server's end of a connection. The code `02` is the
/// keepalive timer.
#[cfg(target_os = "linux")]
fn timer(server: u16, client: u16) -> Option<String> {
    let (local, remote) = (format!(":{server:04X}"), format!(":{client:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_connection = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() > 5 && words[1].ends_with(&local) && words[2].ends_with(&remote)
    };
    let line = table.lines().find(of_connection)?;
    Some(line.split_whitespace().nth(5)?[..2].to_owned())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_vanishes_is_noticed_by_the_system() {
    let app = App::start().await;
    let socket = connect(&app).await;
    let client = socket.local_addr().unwrap().port();
    timeout(PATIENCE, async {
        while timer(app.engine.address().port(), client).as_deref() != Some("02") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("keepalive");
}

#[tokio::test]
async fn a_proxy_says_by_the_proxy_protocol_whom_it_speaks_for() {
    let app = App::start_with(|config| {
        config.http.requests_per_address = 1;
        config.http.max_unauthenticated_per_address = 50;
        config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.http.proxy_protocol = true;
    })
    .await;
    let come = async |client: [u8; 4]| {
        let mut socket = connect(&app).await;
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(client);
        header.extend([192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb]);
        socket.write_all(&header).await.unwrap();
        socket
    };
    let ask = async |client: [u8; 4]| {
        let mut socket = come(client).await;
        let request = format!(
            "GET /api/partner/session/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {WRONG}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        answer(&rest(&mut socket).await).status
    };
    let tries = join_all((0..30).map(|_| ask([198, 51, 100, 7]))).await;
    assert!(tries.contains(&401) && tries.contains(&429), "{tries:?}");
    assert_eq!(ask([198, 51, 100, 8]).await, 401);
    // When a client has too many connections, the server closes silent connections of this client, and of no other
    // client.
    let mut quiet = come([198, 51, 100, 9]).await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(come([198, 51, 100, 10]).await);
    }
    for oldest in &mut silent[..30] {
        rest(oldest).await;
    }
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    quiet.write_all(request).await.unwrap();
    assert_eq!(answer(&rest(&mut quiet).await).status, 200);
    let mut without = connect(&app).await;
    without
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(
        rest(&mut without).await.is_empty(),
        "a proxy that does not say so is not served"
    );
}

#[tokio::test]
async fn a_token_with_too_many_requests_gets_429_and_no_other_token_does() {
    let app = App::start_with(|config| config.http.requests_per_token = 1).await;
    let other = app.database.token(Stores::All).await;
    let asked = join_all((0..40).map(|_| with_token(&app, &app.token, &[]))).await;
    let refused = asked.iter().find(|asked| asked.status == 429).expect("too many");
    assert_eq!(refused.code(), "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(with_token(&app, &other, &[]).await.status, 200);
}

#[tokio::test]
async fn what_is_for_operators_is_not_for_the_public() {
    let app = App::start().await;
    for path in ["/readyz", "/metrics"] {
        assert_eq!(app.get(path, None).await.0, 404, "{path}");
    }
    app.until_ready().await;
    assert_eq!(app.get_ops("/metrics").await.0, 200);
    assert_eq!(app.get("/healthz", None).await.0, 200);
    assert_eq!(app.get_ops("/healthz").await.0, 200);
    assert_eq!(app.get_ops("/").await.0, 404);
    assert_eq!(app.get_ops("/api/partner/session/7").await.0, 404);
}

#[tokio::test]
async fn a_page_is_kept_to_tls_and_to_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(directory.path());
    let secure = App::start_secure(tls, trusted.clone()).await;
    let mut socket = secured(connect(&secure).await, &trusted).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let page = answer(&rest(&mut socket).await);
    assert_eq!(page.status, 200);
    assert!(
        page.header("strict-transport-security")
            .unwrap()
            .starts_with("max-age=")
    );
    let app = App::start().await;
    let page = app.call("GET", "/", &[], None).await;
    assert_eq!(
        page.header("strict-transport-security"),
        None,
        "without TLS it would lock people out"
    );
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    assert!(page.header("permissions-policy").unwrap().contains("camera=()"));
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused_where_ours_are_listed() {
    let app = App::start_with(|config| config.http.hosts = vec!["orders.example".into()]).await;
    let refused = app.call("GET", "/", &[("Host", "rebound.example")], None).await;
    assert_eq!((refused.status, refused.code().as_str()), (421, "unknown_host"));
    let rebound = with_token(
        &app,
        &app.token,
        &[("Host", "rebound.example"), ("Origin", "http://rebound.example")],
    )
    .await;
    assert_eq!(rebound.status, 421);
    assert_eq!(
        app.call("GET", "/", &[("Host", "orders.example")], None).await.status,
        200
    );
    // A load balancer sends the node's IP address in the header `Host`.
    assert_eq!(
        app.call("GET", "/healthz", &[("Host", "10.0.0.1")], None).await.status,
        200
    );
}

#[tokio::test]
async fn a_new_certificate_is_served_when_its_files_change_and_no_session_notices() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, old) = certificate(directory.path());
    let app = App::start_secure(tls, old.clone()).await;
    let mut panel = app.panel("7", None).await.live().await;
    // So far the file of the certificate is new, and the file of the key is old. They do not fit together, so the
    // server keeps the old certificate.
    let other = tempfile::tempdir().unwrap();
    let (new_tls, new) = certificate(other.path());
    std::fs::copy(&new_tls.certificate, directory.path().join("c.pem")).unwrap();
    app.engine.read_again();
    assert!(secured(connect(&app).await, &old).await.is_ok());
    std::fs::copy(&new_tls.key, directory.path().join("k.pem")).unwrap();
    timeout(PATIENCE, async {
        while secured(connect(&app).await, &new).await.is_err() {}
    })
    .await
    .expect("the new certificate");
    assert!(secured(connect(&app).await, &old).await.is_err());
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["data"]["order_ids"], json!(["1"]));
}

#[tokio::test]
async fn sighup_ends_nothing() {
    let database = Database::fresh().await;
    let mut node = Node::serving(&database, "http://127.0.0.1:9", &[]).await;
    let token = database.token(Stores::All).await;
    let mut panel = Panel::connect(node.address().await, "7", None, &token).await.unwrap();
    node.signal(Signal::HUP);
    node.until_said("nothing is read again").await;
    let order = "insert into orders (store_id) values (7)";
    database.client().await.batch_execute(order).await.unwrap();
    assert_eq!(panel.event().await["type"], "new_order");
    node.signal(Signal::TERM);
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn where_few_files_may_be_open_sessions_stay_and_postgres_is_reached_again() {
    let database = Database::fresh().await;
    let node = Node::serving(&database, "http://127.0.0.1:9", &[]).await;
    node.until_said("listening").await;
    let limit = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    prlimit(Some(node.pid()), Resource::Nofile, limit).unwrap();
    let (address, token) = (node.address().await, database.token(Stores::All).await);
    let mut panel = Panel::until_admitted(address, "7", &token).await;
    // Open more connections than the process may have open files, and keep them open.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let shop = database.client().await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and application_name like 'vestnik%' and pid <> pg_backend_pid()";
    shop.execute(kill, &[]).await.unwrap();
    shop.batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    assert_eq!(panel.event().await["type"], "new_order");
    let _newcomer = Panel::until_admitted(address, "7", &token).await;
    // The node logs a warning for the operator.
    node.until_said("the oldest are closed for new ones").await;
    assert!(
        node.metric("vestnik_connections_closed_for_others_total{limit=\"all\"}")
            .await
            > Some(0.0)
    );
    drop(silent);
}
