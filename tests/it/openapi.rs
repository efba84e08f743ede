//! Compares docs/openapi.yaml with the program. The document must list exactly the routes of the program. Each
//! documented status must occur, and each response must match its documented schema.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use vestnik::engine::Engine;
use vestnik::infra::config::Telegram;
use vestnik::token::Stores;

use crate::support::app::{App, PATIENCE};
use crate::support::http::{Answer, begin, call};
use crate::support::{LOCK_LIMIT, in_rounds, within};

/// The parsed docs/openapi.yaml.
struct Document(Value);

impl Document {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.yaml");
        let document = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).expect("YAML");
        Self(document)
    }

    /// The target of a `$ref`, or the value itself if it is not a reference.
    fn resolved<'a>(&'a self, thing: &'a Value) -> &'a Value {
        match thing["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                self.0
                    .pointer(pointer)
                    .unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => thing,
        }
    }

    /// Every combination of method, path and status in the document.
    fn promised(&self) -> BTreeSet<(String, String, u16)> {
        let mut promised = BTreeSet::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| *name != "parameters")
            {
                for status in operation["responses"].as_object().unwrap().keys() {
                    promised.insert((method.to_uppercase(), path.clone(), status.parse().unwrap()));
                }
            }
        }
        promised
    }

    /// A validator for a schema. It refuses members that the schema does not name, unless the schema permits other
    /// members explicitly.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut root = Map::new();
        root.insert("allOf".into(), json!([schema]));
        root.insert("components".into(), self.0["components"].clone());
        let mut root = Value::Object(root);
        close(&mut root);
        let options = jsonschema::options().should_validate_formats(true);
        options.build(&root).expect("a schema")
    }

    /// Asserts that the document has the response's status, and that the response's headers and body match the
    /// document.
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let place = format!("{method} {path} {}", answer.status);
        let responses = &self.0["paths"][path][method.to_lowercase()]["responses"];
        let response = self.resolved(&responses[answer.status.to_string()]);
        assert!(
            response.is_object(),
            "{place} is not in the document: {}",
            answer.text()
        );
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let value = answer.header(&name.to_ascii_lowercase());
            let value = value.unwrap_or_else(|| panic!("{place} has no {name}"));
            self.agrees(
                &self.resolved(header)["schema"],
                &json!(value),
                &format!("{place}: {name}"),
            );
        }
        let Some(content) = response["content"].as_object() else {
            return;
        };
        let given = answer.header("content-type").expect("a content type");
        let given = given.split(';').next().unwrap();
        let (_, kind) = content
            .iter()
            .find(|(kind, _)| *kind == given || *kind == "*/*")
            .unwrap_or_else(|| panic!("{place} is of {given}"));
        let body = if given.ends_with("json") {
            answer.json()
        } else {
            Value::String(answer.text())
        };
        self.agrees(&kind["schema"], &body, &place);
    }

    fn agrees(&self, schema: &Value, value: &Value, place: &str) {
        let validator = self.validator(schema);
        let wrong: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{place}: {}\n{value}", wrong.join("\n"));
    }
}

/// Makes a schema strict: objects may have no undocumented members, and extensible lists may have no undocumented
/// values.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(values) = members.get("x-extensible-enum").cloned() {
                members.insert("enum".into(), values);
            }
            if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(members) => members.iter_mut().for_each(close),
        _ => {}
    }
}

/// Sends requests to a server, compares the responses with the document, and collects the statuses of the responses.
struct Tour<'a> {
    document: &'a Document,
    server: SocketAddr,
    bearer: String,
    seen: BTreeSet<(String, String, u16)>,
}

impl Tour<'_> {
    /// Sends a request to `path`, which is an example of the documented path `template`. Asserts that the response has
    /// the status `expected` and matches the document.
    async fn go(&mut self, method: &str, template: &str, path: &str, expected: u16, body: Option<Value>) -> Answer {
        let bearer = self.bearer.clone();
        self.go_with(method, template, path, expected, &[("Authorization", &bearer)], body)
            .await
    }

    async fn go_with(
        &mut self,
        method: &str,
        template: &str,
        path: &str,
        expected: u16,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let body = body.map(|body| body.to_string());
        let answer = call(self.server, method, path, headers, body.as_deref()).await;
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        self.check(method, template, &answer);
        answer
    }

    fn check(&mut self, method: &str, template: &str, answer: &Answer) {
        self.document.check(method, template, answer);
        self.seen
            .insert((method.to_owned(), template.to_owned(), answer.status));
    }
}

const API: &str = "/api/partner/";

/// An example of a request: the method, the documented path, a concrete path, and a body.
type Example = (&'static str, &'static str, String, Option<Value>);

/// An example request for every route that needs a token.
fn guarded() -> Vec<Example> {
    let routes = vestnik::http::ROUTES.iter().filter(|route| route.path.starts_with(API));
    routes
        .map(|route| {
            let path = route.path.replace("{store}", "7").replace("{id}", "1");
            let query = match route.path {
                path if path.ends_with("summary") => "?from=2026-11-01T00:00:00Z&to=2026-11-30T00:00:00Z",
                path if path.ends_with("stop-list") && route.method == "DELETE" => "?item=Tea",
                "/api/partner/stream" => "?stores=7",
                _ => "",
            };
            let path = path + query;
            let body = match route.path {
                path if path.ends_with("pause") && route.method == "PUT" => Some(json!({"minutes": 30})),
                path if path.ends_with("stop-list") && route.method == "PUT" => Some(json!({"item": "Tea"})),
                path if path.ends_with("status") => Some(json!({"status": "preparing"})),
                path if path.ends_with("receipts") && route.method == "POST" => {
                    Some(json!({"panel": "kitchen", "channel": "polling"}))
                }
                _ => None,
            };
            (route.method.as_str(), route.path, path, body)
        })
        .collect()
}

/// The headers of a WebSocket handshake, without the token.
const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "close, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

fn with<'a>(headers: &[(&'a str, &'a str)], template: &str) -> Vec<(&'a str, &'a str)> {
    let upgrade = if template.contains("/ws/") {
        UPGRADE.as_slice()
    } else {
        &[]
    };
    headers.iter().chain(upgrade).copied().collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = Document::read();
    let promised: BTreeSet<_> = document
        .promised()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let routes = vestnik::http::ROUTES.iter().chain(&vestnik::http::OPS_ROUTES);
    let there: BTreeSet<_> = routes
        .map(|route| (route.method.to_string(), route.path.to_owned()))
        .collect();
    assert_eq!(there, promised);
}

#[tokio::test]
async fn the_document_names_the_query_parameters_of_each_route_and_others_are_refused() {
    let document = Document::read();
    let app = App::start_with(|config| config.http.requests_per_token = 10_000).await;
    for route in &vestnik::http::ROUTES {
        let item = &document.0["paths"][route.path];
        let operation = &item[route.method.as_str().to_lowercase()];
        let parameters = [&item["parameters"], &operation["parameters"]];
        let parameters = parameters.iter().filter_map(|list| list.as_array()).flatten();
        let named: BTreeSet<&str> = parameters
            .map(|parameter| document.resolved(parameter))
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, route.parameters.iter().copied().collect(), "{}", route.path);
    }
    let address = app.engine.address();
    for (method, template, path, body) in guarded() {
        let path = format!("{path}{}limitt=5", if path.contains('?') { "&" } else { "?" });
        let bearer = format!("Bearer {}", app.token);
        let headers = with(&[("Authorization", bearer.as_str())], template);
        let body = body.map(|body| body.to_string());
        let answer = call(address, method, &path, &headers, body.as_deref()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "unknown_parameter"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_document_says_which_scope_each_route_takes() {
    let document = Document::read();
    for route in vestnik::http::ROUTES.iter().chain(&vestnik::http::OPS_ROUTES) {
        let operation = &document.0["paths"][route.path][route.method.as_str().to_lowercase()];
        let security = operation.get("security").unwrap_or(&document.0["security"]);
        let taken = match route.scope() {
            Some(scope) => json!([{ "token": [scope.as_str()] }]),
            None => json!([]),
        };
        assert_eq!(*security, taken, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn the_document_says_what_it_seems_to_say() {
    let document = Document::read();
    // YAML reads `{description: this, that}` as an object with an empty member `that`. So a text with a comma must be
    // quoted. This function finds the empty members of texts that are not quoted.
    fn look(document: &Document, thing: &Value, place: &str) {
        match thing {
            Value::Object(members) => {
                for (name, member) in members {
                    assert!(!member.is_null(), "{place}: {name} is empty: quote what has a comma");
                    look(document, member, &format!("{place}/{name}"));
                }
                document.resolved(thing);
            }
            Value::Array(members) => members.iter().for_each(|member| look(document, member, place)),
            _ => {}
        }
    }
    look(&document, &document.0, "");
    let mut ids = BTreeSet::new();
    for (path, item) in document.0["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "parameters")
        {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap()),
                "{method} {path}"
            );
            let open = !path.starts_with(API);
            assert_eq!(
                operation["security"] == json!([]),
                open,
                "{method} {path}: whether it wants a token"
            );
            let given: BTreeSet<&str> = [&item["parameters"], &operation["parameters"]]
                .into_iter()
                .flat_map(|list| list.as_array().into_iter().flatten())
                .map(|parameter| document.resolved(parameter))
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let named = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(given, named.collect(), "{method} {path}: the parts of its path");
        }
    }
}

#[tokio::test]
async fn every_promised_answer_is_given_and_is_what_its_schema_says() {
    let document = Document::read();
    let app = App::start_with(|config| {
        config.session.max_per_store = 1;
        config.telegram = Some(Telegram {
            token: "1:aaaaaaaaaaaaaaaaaaaa".to_owned().into(),
            api_url: "http://127.0.0.1:9".into(),
            proxy: None,
            texts: None,
            digest_after: PATIENCE,
            digest_threshold: 10,
            deadline: std::time::Duration::from_secs(1),
            lease: std::time::Duration::from_secs(5),
        });
    })
    .await;
    fill(&app).await;
    let mut tour = Tour {
        document: &document,
        server: app.engine.address(),
        bearer: format!("Bearer {}", app.token),
        seen: BTreeSet::new(),
    };
    open_doors(&mut tour).await;
    app.until_ready().await;
    at_ops(&mut tour, app.engine.ops_address().unwrap(), 200).await;
    closed_doors(&mut tour, &app).await;
    streams(&mut tour, &app).await;
    lists(&mut tour).await;
    changes(&mut tour, &app).await;
    pause(&mut tour).await;
    stock(&mut tour).await;
    receipts(&mut tour, &app).await;
    too_much_at_once(&mut tour, &app).await;
    too_slow(&mut tour).await;
    let mut seen = tour.seen;
    seen.extend(without_a_database(&document, &app).await);
    seen.extend(too_often(&document).await);
    seen.extend(while_the_shop_is_down(&document).await);
    let missing: Vec<_> = document
        .promised()
        .into_iter()
        .filter(|promised| !seen.contains(promised))
        .collect();
    assert!(
        missing.is_empty(),
        "documented responses that did not occur: {missing:?}"
    );
}

/// Writes orders and bookings with all fields, and the chats, deliveries, receipts and escalation of an order.
async fn fill(app: &App) {
    app.write(
        "insert into orders (store_id, customer_name, total, order_type, items, reason) \
             select 7, 'Иван', 50000, 'delivery', '[{\"name\": \"Борщ\"}]', 'почему' from generate_series(1, 6); \
         insert into bookings (store_id, customer_name, guests, starts_at) select 7, 'Анна', 4, now() from generate_series(1, 5)",
    )
    .await;
    app.write(
        "alter table orders add constraint no_cilantro check (reason is distinct from 'cilantro'); \
         alter table bookings add constraint no_cilantro check (reason is distinct from 'cilantro'); \
         update orders set status = 'completed', order_type = 'pickup' where id = 6; \
         insert into vestnik.vst_store (id, name) values ('7', 'Кафе'); \
         insert into vestnik.vst_chat (telegram_id, title, disabled_at, disabled_why) values (-5, 'Кухня', now(), 'blocked'), (-6, null, now(), null); \
         insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by) select id, '7', 'mirror', 'ru', 1 from vestnik.vst_chat; \
         insert into vestnik.vst_delivery (chat_id, store_id, event_id, urgent, state, attempts, completed_at, reason) \
             values (1, '7', 1, true, 'dead', 2, now(), 'blocked'), (2, '7', 1, true, 'pending', 0, null, null); \
         insert into vestnik.vst_escalation (event_id, store_id, subject, step, due_at, ended_at, outcome) values (1, '7', 'order 1', 2, now(), now(), 'answered') \
             on conflict (event_id) do update set step = 2, ended_at = now(), outcome = 'answered'; \
         insert into vestnik.vst_receipt (event_id, channel, recipient, sent_at, rendered_at, sounded_at, acknowledged_at, acknowledged_by) \
             values (1, 'websocket', 's', now(), now(), now(), now(), 'Касса'), (1, 'telegram', '1', now(), null, null, null, null)",
    )
    .await;
}

/// Sends requests to the routes that need no token.
async fn open_doors(tour: &mut Tour<'_>) {
    for (template, path) in [
        ("/", "/"),
        ("/panel/{file}", "/panel/index.html"),
        ("/sw.js", "/sw.js"),
        ("/manifest.webmanifest", "/manifest.webmanifest"),
    ] {
        let page = tour.go_with("GET", template, path, 200, &[], None).await;
        let known = [("If-None-Match", page.header("etag").unwrap())];
        tour.go_with("GET", template, path, 304, &known, None).await;
    }
    tour.go_with("GET", "/panel/{file}", "/panel/none", 404, &[], None)
        .await;
    tour.go_with("GET", "/healthz", "/healthz", 200, &[], None).await;
}

/// Sends requests to the routes at the address for operators.
async fn at_ops(tour: &mut Tour<'_>, ops: SocketAddr, ready: u16) {
    let public = std::mem::replace(&mut tour.server, ops);
    for (path, expected) in [("/healthz", 200), ("/readyz", ready), ("/metrics", 200)] {
        tour.go_with("GET", path, path, expected, &[], None).await;
    }
    tour.server = public;
}

/// Sends several requests without their bodies. Each request times out after ten seconds, so they run at the same time.
async fn too_slow(tour: &mut Tour<'_>) {
    let slow: Vec<_> = guarded().into_iter().filter(|(.., body)| body.is_some()).collect();
    let bearer = tour.bearer.clone();
    let answers = slow.iter().map(|(method, _, path, _)| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Length", "10")];
        let server = tour.server;
        async move { call(server, method, path, &headers, None).await }
    });
    for (answer, (method, template, ..)) in futures::future::join_all(answers).await.iter().zip(&slow) {
        assert_eq!(answer.status, 408, "{method} {template}: {}", answer.text());
        tour.document.check(method, template, answer);
        tour.seen.insert(((*method).to_owned(), (*template).to_owned(), 408));
    }
}

/// Sends requests to a store whose shop API cannot be reached. Returns the methods, paths and statuses of the
/// responses.
async fn while_the_shop_is_down(document: &Document) -> BTreeSet<(String, String, u16)> {
    let app = App::start_with(|config| {
        config.webhook.allow_private = true;
        config.answers.secrets = vec!["0123456789abcdef".to_owned().into()];
    })
    .await;
    for kind in ["order", "booking"] {
        let mapping = format!(
            "table = 'public.{kind}s'\nkind = '{kind}'\nkey = 'id'\nstore = 'store_id'\n\
             status = {{ column = 'status', pending = ['pending'] }}\nanswer = {{ url = 'http://127.0.0.1:1/' }}"
        );
        app.database.attach(&mapping).await;
    }
    fill(&app).await;
    let mut tour = Tour {
        document,
        server: app.engine.address(),
        bearer: format!("Bearer {}", app.token),
        seen: BTreeSet::new(),
    };
    for noun in ["orders", "bookings"] {
        let template = format!("/api/partner/stores/{{store}}/{noun}/{{id}}/status");
        let path = format!("/api/partner/stores/7/{noun}/1/status");
        tour.go("POST", &template, &path, 504, Some(json!({"status": "preparing"})))
            .await;
    }
    tour.seen
}

async fn too_often(document: &Document) -> BTreeSet<(String, String, u16)> {
    let app = App::start_with(|config| config.http.requests_per_token = 1).await;
    let bearer = format!("Bearer {}", app.token);
    let mut tour = Tour {
        document,
        server: app.engine.address(),
        bearer: bearer.clone(),
        seen: BTreeSet::new(),
    };
    let authorized = [("Authorization", bearer.as_str())];
    for (method, template, path, body) in guarded() {
        // The rate limit allows a burst of 20 requests, and one more request each second.
        let session = "/api/partner/session/7";
        let headers = with(&authorized, template);
        let body = body.map(|body| body.to_string());
        let refused = loop {
            while call(tour.server, "GET", session, &authorized, None).await.status != 429 {}
            let answer = call(tour.server, method, &path, &headers, body.as_deref()).await;
            // The rate limiter may have admitted one more request between the two calls.
            if answer.status == 429 {
                break answer;
            }
        };
        tour.check(method, template, &refused);
    }
    tour.seen
}

/// Sends more requests to one store than may run and wait at the same time. For each kind of limit, the function tests
/// one route.
async fn too_much_at_once(tour: &mut Tour<'_>, app: &App) {
    let bearer = tour.bearer.clone();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let held = app.database.client().await;
    held.batch_execute("begin; lock table orders, vestnik.vst_escalation in access exclusive mode")
        .await
        .unwrap();
    let asked = [
        (
            "GET",
            "/summary",
            "summary?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z",
            10,
        ),
        (
            "POST",
            "/orders/{id}/status",
            "orders/1/status",
            2 + vestnik::infra::db::WAITING_PRESSES,
        ),
    ];
    for (method, ending, path, standing) in asked {
        let route = guarded()
            .into_iter()
            .find(|(of, template, ..)| *of == method && template.ends_with(ending));
        let (method, template, example, body) = route.unwrap();
        let path = format!("/api/partner/stores/7/{path}");
        let status = (method == "POST").then_some(r#"{"status":"ready"}"#);
        let body = body.map(|body| body.to_string());
        let two_run = "select count(*) >= 2 from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and application_name in ('vestnik reads', 'vestnik pool')";
        let server = tour.server;
        // The waiting requests time out after seconds, so the request that the server must refuse follows at once.
        let refused = in_rounds(async || {
            let refused = within(LOCK_LIMIT, async {
                let requests = (0..standing).map(|_| begin(server, method, &path, &headers, status));
                let _waiting = join_all(requests).await;
                app.database.until(two_run).await;
                call(server, method, &example, &headers, body.as_deref()).await
            });
            refused.await.filter(|refused| refused.status == 429)
        })
        .await;
        tour.check(method, template, &refused);
    }
}

/// Asserts that requests without a token, with a token of another store, and from another origin are refused.
async fn closed_doors(tour: &mut Tour<'_>, app: &App) {
    let other = app.database.token(Stores::These(vec!["8".into()])).await;
    let other = format!("Bearer {other}");
    let good = tour.bearer.clone();
    for (method, template, path, body) in guarded() {
        let foreign = [("Authorization", good.as_str()), ("Origin", "https://evil.example")];
        for (headers, expected) in [
            ([].as_slice(), 401),
            (&[("Authorization", other.as_str())], 403),
            (&foreign, 403),
        ] {
            if expected == 403 && headers.len() == 1 && template == "/api/partner/stores" {
                continue; // The route lists the stores of any valid token.
            }
            let headers = with(headers, template);
            tour.go_with(method, template, &path, expected, &headers, body.clone())
                .await;
        }
        let separator = if path.contains('?') { '&' } else { '?' };
        let in_url = format!("{path}{separator}token=x");
        let headers = with(&[("Authorization", good.as_str())], template);
        tour.go_with(method, template, &in_url, 400, &headers, body).await;
    }
}

async fn streams(tour: &mut Tour<'_>, app: &App) {
    let (socket, sse) = ("/api/partner/ws/partner/{store}", "/api/partner/sse/{store}");
    let session = "/api/partner/session/{store}";
    tour.go("GET", session, "/api/partner/session/7", 200, None).await;
    tour.go("GET", socket, "/api/partner/ws/partner/7", 426, None).await;
    let bearer = tour.bearer.clone();
    let old = [
        ("Authorization", bearer.as_str()),
        ("Connection", "close, Upgrade"),
        ("Upgrade", "websocket"),
    ];
    tour.go_with("GET", socket, "/api/partner/ws/partner/7", 400, &old, None)
        .await;

    // These responses never end, so the test checks only their heads.
    let headers = with(&[("Authorization", bearer.as_str())], socket);
    let answer = timeout(
        PATIENCE,
        crate::support::http::head(tour.server, "/api/partner/ws/partner/8", &headers),
    );
    let (answer, upgraded) = answer.await.expect("a head");
    assert_eq!(answer.status, 101);
    tour.document.check("GET", socket, &answer);
    tour.seen.insert(("GET".into(), socket.into(), 101));
    let authorized = [("Authorization", bearer.as_str())];
    let answer = timeout(
        PATIENCE,
        crate::support::http::head(tour.server, "/api/partner/sse/7", &authorized),
    );
    let (answer, stream) = answer.await.expect("a head");
    assert_eq!(answer.status, 200);
    tour.document.check("GET", sse, &answer);
    tour.seen.insert(("GET".into(), sse.into(), 200));
    tour.go("GET", sse, "/api/partner/sse/7", 429, None).await;
    drop((upgraded, stream));
    many_stores(tour).await;

    let events = "/api/partner/stores/{store}/events";
    let page = tour
        .go(
            "GET",
            events,
            "/api/partner/stores/7/events?limit=3&panel=kitchen",
            200,
            None,
        )
        .await;
    assert_eq!(page.json()["events"].as_array().unwrap().len(), 3);
    tour.go("GET", events, "/api/partner/stores/7/events", 200, None).await;
    for query in ["limit=0", "after=garbage", "panel="] {
        tour.go(
            "GET",
            events,
            &format!("/api/partner/stores/7/events?{query}"),
            400,
            None,
        )
        .await;
    }
    let elsewhere = App::start().await;
    let foreign = elsewhere.get_json("/api/partner/stores/7/events").await["cursor"].clone();
    let path = format!("/api/partner/stores/7/events?after={}", foreign.as_str().unwrap());
    tour.go("GET", events, &path, 410, None).await;
    assert!(app.get_json("/api/partner/stores/8/events").await["events"] == json!([]));
}

async fn many_stores(tour: &mut Tour<'_>) {
    let (list, stream) = ("/api/partner/stores", "/api/partner/stream");
    let page = tour
        .go("GET", list, "/api/partner/stores?limit=1", 200, None)
        .await
        .json();
    assert_eq!(page["stores"][0]["name"], "Кафе");
    tour.go("GET", list, "/api/partner/stores?after=x", 400, None).await;
    let bearer = tour.bearer.clone();
    let authorized = [("Authorization", bearer.as_str())];
    let upgrade: Vec<_> = authorized.iter().chain(&UPGRADE).copied().collect();
    for (headers, status) in [(&authorized[..], 200), (&upgrade, 101)] {
        let answer = timeout(PATIENCE, crate::support::http::head(tour.server, stream, headers));
        let (answer, _stream) = answer.await.expect("a head");
        assert_eq!(answer.status, status);
        tour.document.check("GET", stream, &answer);
        tour.seen.insert(("GET".into(), stream.into(), status));
    }
}

async fn lists(tour: &mut Tour<'_>) {
    for noun in ["orders", "bookings"] {
        let (template, path) = (
            format!("/api/partner/stores/{{store}}/{noun}"),
            format!("/api/partner/stores/7/{noun}"),
        );
        let page = tour
            .go("GET", &template, &format!("{path}?status=all&limit=3"), 200, None)
            .await;
        assert_eq!(
            (page.json()[noun].as_array().unwrap().len(), &page.json()["more"]),
            (3, &json!(true))
        );
        tour.go("GET", &template, &path, 200, None).await;
        for query in ["status=eaten", "limit=x", "before=x"] {
            tour.go("GET", &template, &format!("{path}?{query}"), 400, None).await;
        }
    }
    let template = "/api/partner/stores/{store}/store";
    let card = tour
        .go("GET", template, "/api/partner/stores/7/store", 200, None)
        .await
        .json();
    assert_eq!(
        (&card["name"], &card["telegram"], &card["chats_disabled"][0]),
        (
            &json!("Кафе"),
            &json!("on"),
            &json!({"chat": "Кухня", "reason": "blocked"})
        )
    );
    let card = tour
        .go("GET", template, "/api/partner/stores/8/store", 200, None)
        .await
        .json();
    let expected = json!({"id": "8", "currency": "RUB", "time_zone": "Europe/Moscow", "answer_seconds": 60, "telegram": "on", "chats_disabled": []});
    assert_eq!(card, expected);
}

async fn changes(tour: &mut Tour<'_>, app: &App) {
    for noun in ["orders", "bookings"] {
        let template = format!("/api/partner/stores/{{store}}/{noun}/{{id}}/status");
        let path = |id: &str| format!("/api/partner/stores/7/{noun}/{id}/status");
        let accept = json!({"status": "preparing", "from": "pending", "minutes": 20, "by": "Кухня"});
        tour.go("POST", &template, &path("1"), 200, Some(accept.clone())).await;
        let conflict = tour.go("POST", &template, &path("1"), 409, Some(accept.clone())).await;
        assert_eq!(conflict.json()["error"]["by"], "Кухня");
        let skip = json!({"status": "completed"});
        tour.go("POST", &template, &path("2"), 409, Some(skip)).await;
        let refused = json!({"status": "rejected", "reason": "cilantro"});
        tour.go("POST", &template, &path("2"), 422, Some(refused)).await;
        tour.go("POST", &template, &path("99"), 404, Some(accept)).await;
        with_a_key(
            tour,
            app,
            &template,
            &path("3"),
            [json!({"status": "preparing"}), json!({"status": "ready"})],
        )
        .await;
        tour.go("POST", &template, &path("1"), 400, Some(json!({"status": "eaten"})))
            .await;
        tour.go("POST", &template, &path("1"), 400, Some(json!({}))).await;
        let huge = json!({"status": "preparing", "x": "x".repeat(5000)});
        tour.go("POST", &template, &path("1"), 413, Some(huge)).await;
        // Now the list has an order with an answer and its promised minutes.
        let (template, path) = (
            format!("/api/partner/stores/{{store}}/{noun}"),
            format!("/api/partner/stores/7/{noun}"),
        );
        let list = tour.go("GET", &template, &path, 200, None).await.json();
        let rows = list[noun].as_array().unwrap();
        assert!(rows.iter().any(|row| row["answer"]["minutes"] == 20), "{list}");
    }
}

/// Sends two POSTs with an idempotency key. The key of the first POST was used for another request. The key of the
/// second POST belongs to a request that is still running.
async fn with_a_key(tour: &mut Tour<'_>, app: &App, template: &str, path: &str, bodies: [Value; 2]) {
    let bearer = tour.bearer.clone();
    let [first, other] = bodies;
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", template)];
    let answer = call(tour.server, "POST", path, &headers, Some(&first.to_string())).await;
    assert!(answer.status < 300, "{}", answer.text());
    let reused = tour.go_with("POST", template, path, 422, &headers, Some(other)).await;
    assert_eq!(reused.code(), "idempotency_key_reused");
    app.write("update vestnik.vst_idempotent_request set status = null, body = null")
        .await;
    let in_use = tour.go_with("POST", template, path, 409, &headers, Some(first)).await;
    assert_eq!(in_use.code(), "idempotency_key_in_use");
}

async fn pause(tour: &mut Tour<'_>) {
    let (template, path) = ("/api/partner/stores/{store}/pause", "/api/partner/stores/7/pause");
    let wish = json!({"until": "tomorrow", "by": "Кухня", "reason": "печь"});
    tour.go("PUT", template, path, 200, Some(wish)).await;
    tour.go("PUT", template, path, 400, Some(json!({"minutes": 0}))).await;
    let huge = json!({"minutes": 5, "x": "x".repeat(5000)});
    tour.go("PUT", template, path, 413, Some(huge)).await;
    let told = tour.go("GET", template, path, 200, None).await.json();
    assert_eq!(told["by"], "Кухня");
    let card = "/api/partner/stores/{store}/store";
    let card = tour
        .go("GET", card, "/api/partner/stores/7/store", 200, None)
        .await
        .json();
    assert_eq!(card["pause"]["reason"], "печь");
    let nameless = format!("{path}?panel=");
    tour.go("DELETE", template, &nameless, 400, None).await;
    tour.go("DELETE", template, path, 200, None).await;
}

async fn stock(tour: &mut Tour<'_>) {
    let (template, path) = (
        "/api/partner/stores/{store}/stop-list",
        "/api/partner/stores/7/stop-list",
    );
    let wish = json!({"item": "Борщ", "until": "tomorrow", "by": "Кухня"});
    let list = tour.go("PUT", template, path, 200, Some(wish)).await.json();
    assert_eq!(list["items"][0]["item"], "Борщ");
    tour.go("PUT", template, path, 400, Some(json!({"item": ""}))).await;
    let huge = json!({"item": "Борщ", "x": "x".repeat(5000)});
    tour.go("PUT", template, path, 413, Some(huge)).await;
    tour.go("GET", template, path, 200, None).await;
    tour.go("DELETE", template, path, 400, None).await;
    tour.go("DELETE", template, &format!("{path}?item=Tea"), 200, None)
        .await;
}

async fn receipts(tour: &mut Tour<'_>, app: &App) {
    let event = "/api/partner/stores/{store}/events/{id}";
    tour.go("GET", event, "/api/partner/stores/7/events/1", 200, None).await;
    tour.go("GET", event, "/api/partner/stores/7/events/9999", 404, None)
        .await;
    let ack = "/api/partner/stores/{store}/events/{id}/ack";
    tour.go(
        "POST",
        ack,
        "/api/partner/stores/7/events/1/ack?panel=kitchen",
        204,
        None,
    )
    .await;
    tour.go("GET", ack, "/api/partner/stores/7/events/1/ack", 200, None)
        .await;
    tour.go("GET", ack, "/api/partner/stores/7/events/9999/ack", 404, None)
        .await;
    tour.go("POST", ack, "/api/partner/stores/7/events/9999/ack", 404, None)
        .await;
    tour.go("POST", ack, "/api/partner/stores/7/events/1/ack?panel=", 400, None)
        .await;

    let bodies = [json!({}), json!({"other": true})];
    with_a_key(tour, app, ack, "/api/partner/stores/7/events/1/ack", bodies).await;

    let (receipts, path) = ("/api/partner/stores/{store}/receipts", "/api/partner/stores/7/receipts");
    let said = json!({"panel": "kitchen", "channel": "polling", "rendered": ["2"], "sounded": ["2"], "rings": true});
    tour.go("POST", receipts, path, 204, Some(said.clone())).await;
    let other = json!({"panel": "counter", "channel": "polling"});
    with_a_key(tour, app, receipts, path, [said, other]).await;
    tour.go("POST", receipts, path, 400, Some(json!({"panel": "kitchen"})))
        .await;
    tour.go("POST", receipts, path, 413, Some(json!({"panel": "x".repeat(40_000)})))
        .await;
    let told = tour
        .go("GET", receipts, &format!("{path}?order=1&limit=50"), 200, None)
        .await
        .json();
    let first = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["id"] == "1")
        .unwrap();
    assert_eq!(first["chats"].as_array().unwrap().len(), 2);
    assert!(first["channels"].as_array().unwrap().len() >= 3, "{first}");
    tour.go("GET", receipts, path, 200, None).await;
    tour.go("GET", receipts, &format!("{path}?from=yesterday"), 400, None)
        .await;

    let (summary, path) = ("/api/partner/stores/{store}/summary", "/api/partner/stores/7/summary");
    let now = time::OffsetDateTime::now_utc();
    let wire = |at: time::OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let day = time::Duration::days(1);
    let span = format!("{path}?from={}&to={}", wire(now - day), wire(now + day));
    let figures = tour.go("GET", summary, &span, 200, None).await.json();
    assert!(
        figures["orders"] == 6 && figures["acknowledge_seconds"]["p50"].is_number(),
        "{figures}"
    );
    tour.go("GET", summary, path, 400, None).await;
    let empty = format!("{path}?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z");
    tour.go("GET", summary, &empty, 200, None).await;
}

/// Asserts that, without a database, every route that reads a database answers with its documented error.
async fn without_a_database(document: &Document, app: &App) -> BTreeSet<(String, String, u16)> {
    let mut config = app.database.config();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.database.url = Some("postgres://postgres@127.0.0.1:9/nothing".to_owned().into());
    let engine = Engine::start(&config).await.unwrap();
    let bearer = format!("Bearer {}", app.token);
    let mut tour = Tour {
        document,
        server: engine.address(),
        bearer: bearer.clone(),
        seen: BTreeSet::new(),
    };
    for (method, template, path, body) in guarded() {
        let headers = with(&[("Authorization", bearer.as_str())], template);
        tour.go_with(method, template, &path, 503, &headers, body).await;
    }
    at_ops(&mut tour, engine.ops_address().unwrap(), 503).await;
    tour.seen
}
