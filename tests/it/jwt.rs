//! JWTs of an external issuer: what a valid JWT permits, and each reason to refuse one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::timeout;
use vestnik::infra::config::{JwtAlgorithm, JwtKeys};
use vestnik::token::{self, Which};

use crate::support::app::{App, PATIENCE};
use crate::support::db::Database;
use crate::support::issuer::{Key, KeySet, believed, claims, unsigned};
use crate::support::node::Node;

const SESSION: &str = "/api/partner/session/7";

/// Starts an app that accepts JWTs signed with these keys. Returns the app, and the server of its key set.
async fn app(keys: &[(&str, &Key)]) -> (App, KeySet) {
    let public: Vec<Value> = keys.iter().map(|(id, key)| key.public(id)).collect();
    let set = KeySet::serve(&public).await;
    let app = App::start_with(|config| config.jwt = believed(set.url())).await;
    until_known(&app, keys[0]).await;
    (app, set)
}

/// Waits until the node has fetched the keys. Before that, the node answers requests with 503.
async fn until_known(app: &App, (id, key): (&str, &Key)) {
    let jwt = key.issue(id, &with(claims(3600), "sub", json!("nobody")));
    timeout(PATIENCE, async { while app.get(SESSION, Some(&jwt)).await.0 == 503 {} })
        .await
        .expect("its keys");
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_jwt_of_each_algorithm_opens_what_its_claims_say() {
    let (ed25519, p256, rsa) = (Key::ed25519(), Key::p256(), Key::rsa());
    let (app, _set) = app(&[("ed", &ed25519), ("ec", &p256), ("rsa", &rsa)]).await;
    for (id, key) in [("ed", &ed25519), ("ec", &p256), ("rsa", &rsa)] {
        let jwt = key.issue(id, &claims(3600));
        let (status, told) = app.get(SESSION, Some(&jwt)).await;
        assert_eq!(status, 200, "{id}: {told}");
        assert!(told.contains(r#""scope":"panel""#), "{told}");
        assert_eq!(app.get("/api/partner/session/8", Some(&jwt)).await.0, 403, "{id}");
        assert_eq!(
            app.get("/api/partner/stores/7/receipts", Some(&jwt)).await.0,
            403,
            "{id}"
        );
    }
    let all = key_of_all(&ed25519);
    assert_eq!(app.get("/api/partner/session/8", Some(&all)).await.0, 200);
    assert_eq!(app.get("/api/partner/stores/9/receipts", Some(&all)).await.0, 200);
    // A browser sends the token as a WebSocket subprotocol.
    let protocols = format!("vestnik.v1, bearer.{all}");
    app.raw_panel("7", &[("sec-websocket-protocol", protocols.as_str())])
        .await
        .unwrap();
}

fn key_of_all(key: &Key) -> String {
    let all = with(
        with(claims(3600), "stores", json!("*")),
        "scope",
        json!("openid manager"),
    );
    key.issue("ed", &all)
}

#[tokio::test]
async fn a_jwt_that_is_not_the_issuers_or_not_for_us_opens_nothing() {
    let (ed25519, rsa, stranger) = (Key::ed25519(), Key::rsa(), Key::ed25519());
    let (app, _set) = app(&[("ed", &ed25519), ("rsa", &rsa)]).await;
    let good = claims(3600);
    let secret_of = |jwk: &Value| jwk["n"].as_str().unwrap().as_bytes().to_vec();
    let confused = |key: &[u8]| {
        let signed = unsigned(&json!({"alg": "HS256", "kid": "rsa"}), &good);
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    };
    let valid = ed25519.issue("ed", &good);
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let others = with(good.clone(), "stores", json!("*"));
    let forged_claims = URL_SAFE_NO_PAD.encode(others.to_string());
    let cases = [
        ("no signature", format!("{}.", unsigned(&json!({"alg": "none"}), &good))),
        (
            "none in another case",
            format!("{}.", unsigned(&json!({"alg": "NoNe", "kid": "ed"}), &good)),
        ),
        (
            "an algorithm that is not signed with",
            format!("{}.{signature}", unsigned(&json!({"alg": "none", "kid": "ed"}), &good)),
        ),
        ("a public key as a secret one", confused(&secret_of(&rsa.public("rsa")))),
        (
            "another algorithm than its key's",
            ed25519.jwt(&json!({"alg": "RS256", "kid": "ed"}), &good),
        ),
        (
            "another key's name",
            ed25519.jwt(&json!({"alg": "EdDSA", "kid": "rsa"}), &good),
        ),
        ("a stranger's key", stranger.issue("ed", &good)),
        ("an unknown key", stranger.issue("stranger", &good)),
        (
            "a key that it brings",
            stranger.jwt(&json!({"alg": "EdDSA", "jwk": stranger.public("x")}), &good),
        ),
        (
            "a key that it says where to find",
            stranger.jwt(
                &json!({"alg": "EdDSA", "kid": "ed", "jku": "http://127.0.0.1:9/keys"}),
                &good,
            ),
        ),
        (
            "a certificate that it says where to find",
            ed25519.jwt(
                &json!({"alg": "EdDSA", "kid": "ed", "x5u": "http://127.0.0.1:9/"}),
                &good,
            ),
        ),
        (
            "other claims than were signed",
            format!("{header}.{forged_claims}.{signature}"),
        ),
        ("a cut signature", valid[..valid.len() - 4].to_owned()),
        ("no signature at all", signed.to_owned()),
        (
            "another issuer",
            ed25519.issue("ed", &with(good.clone(), "iss", json!("https://evil.example"))),
        ),
        (
            "another audience",
            ed25519.issue("ed", &with(good.clone(), "aud", json!("somebody"))),
        ),
        (
            "an unknown scope",
            ed25519.issue("ed", &with(good.clone(), "scope", json!("admin"))),
        ),
        (
            "a time that has not come",
            ed25519.issue("ed", &with(good.clone(), "nbf", json!(claims(60)["exp"]))),
        ),
        (
            "an end as text",
            ed25519.issue("ed", &with(good.clone(), "exp", json!("9999999999"))),
        ),
    ];
    for (what, jwt) in &cases {
        let (status, told) = app.get(SESSION, Some(jwt)).await;
        assert!(
            status == 401 && told.contains("unauthorized"),
            "{what}: {status} {told}"
        );
    }
    for required in ["exp", "nbf", "iss", "aud", "stores", "scope"] {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(required);
        assert_eq!(
            app.get(SESSION, Some(&ed25519.issue("ed", &without))).await.0,
            401,
            "{required}"
        );
    }
    let (status, told) = app.get(SESSION, Some(&ed25519.issue("ed", &claims(-1)))).await;
    assert!(status == 401 && told.contains("token_expired"), "{status} {told}");
    assert_eq!(app.get(SESSION, Some(&valid)).await.0, 200, "the valid JWT is accepted");
    // The refused JWTs have left no row in the database.
    let holders = "select count(*) from vestnik.vst_token where issuer is not null";
    let row = app.database.client().await.query_one(holders, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2, "one row for each of the two accepted JWTs");
    for why in [
        "algorithm",
        "header",
        "signature",
        "unknown_key",
        "issuer",
        "audience",
        "scope",
        "not_yet",
        "malformed",
    ] {
        let counted = app
            .metric(&format!("vestnik_tokens_refused_total{{why=\"{why}\"}}"))
            .await;
        assert!(counted >= 1.0, "{why}");
    }
}

#[tokio::test]
async fn only_the_algorithms_of_the_settings_are_taken_and_without_an_issuer_none() {
    let (ed25519, rsa) = (Key::ed25519(), Key::rsa());
    let set = KeySet::serve(&[ed25519.public("ed"), rsa.public("rsa")]).await;
    let app = App::start_with(|config| {
        config.jwt = believed(set.url());
        config.jwt.as_mut().unwrap().algorithms = vec![JwtAlgorithm::EdDsa];
    })
    .await;
    until_known(&app, ("ed", &ed25519)).await;
    assert_eq!(app.get(SESSION, Some(&ed25519.issue("ed", &claims(60)))).await.0, 200);
    assert_eq!(app.get(SESSION, Some(&rsa.issue("rsa", &claims(60)))).await.0, 401);
    let without = App::start().await;
    assert_eq!(
        without.get(SESSION, Some(&ed25519.issue("ed", &claims(60)))).await.0,
        401
    );
    // Logs contain URLs, so a token in a URL would be in the log of every program between the client and the server.
    let in_url = format!("{SESSION}?x={}", ed25519.issue("ed", &claims(60)));
    let refused = without.get(&in_url, Some(&without.token)).await;
    assert!(refused.0 == 400 && refused.1.contains("token_in_url"), "{refused:?}");
}

#[tokio::test]
async fn keys_are_followed_and_whoever_makes_some_up_has_them_read_no_more_often() {
    let (first, second) = (Key::ed25519(), Key::p256());
    let (app, set) = app(&[("first", &first)]).await;
    assert_eq!(app.get(SESSION, Some(&first.issue("first", &claims(60)))).await.0, 200);
    let asked = set.asked();
    // The node fetches the JWK set at most once in 30 seconds, even if the JWTs name keys that do not exist.
    for number in 0..50 {
        let made_up = first.issue(&format!("made-up-{number}"), &claims(60));
        assert_eq!(app.get(SESSION, Some(&made_up)).await.0, 401);
    }
    assert!(set.asked() <= asked + 1, "{} times", set.asked() - asked);

    // The node reads a changed file of keys within seconds.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let write = |key: &Key, id: &str| std::fs::write(&file, json!({"keys": [key.public(id)]}).to_string()).unwrap();
    write(&first, "first");
    let app = App::start_with(|config| config.jwt = believed(JwtKeys::File(file.clone()))).await;
    let opens = async |key: &Key, id: &str| app.get(SESSION, Some(&key.issue(id, &claims(60)))).await.0 == 200;
    timeout(PATIENCE, async { while !opens(&first, "first").await {} })
        .await
        .expect("its key");
    write(&second, "second");
    timeout(PATIENCE, async { while !opens(&second, "second").await {} })
        .await
        .expect("the new key");
    assert!(!opens(&first, "first").await, "the old key is refused");
    // If the file becomes unreadable, the node keeps the known keys. A JWT that names an unknown key gets 503, because
    // the file may have contained a new key.
    std::fs::write(&file, "half a fi").unwrap();
    let unknown = first.issue("third", &claims(60));
    timeout(PATIENCE, async {
        while app.get(SESSION, Some(&unknown)).await.0 != 503 {}
    })
    .await
    .expect("not ready");
    assert!(opens(&second, "second").await);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_waited_for() {
    let key = Key::ed25519();
    let set = KeySet::serve(&[]).await;
    set.answer_with("503 Service Unavailable", "");
    let app = App::start_with(|config| config.jwt = believed(set.url())).await;
    let jwt = key.issue("ed", &claims(60));
    assert_eq!(
        app.get(SESSION, Some(&jwt)).await.0,
        503,
        "a client is told to try again"
    );
    assert_eq!(
        app.get(SESSION, Some(&app.token)).await.0,
        200,
        "our own tokens open all the same"
    );
}

#[tokio::test]
async fn a_session_ends_with_its_jwt_and_goes_on_with_the_next_one() {
    let key = Key::ed25519();
    let (app, _set) = app(&[("ed", &key)]).await;
    // The session sends a warning one minute before its token ends, so this warning comes at once.
    let mut one = app
        .try_panel("7", None, &key.issue("ed", &claims(20)))
        .await
        .unwrap()
        .live()
        .await;
    let mut other = app
        .try_panel("7", None, &key.issue("ed", &claims(20)))
        .await
        .unwrap()
        .live()
        .await;
    assert_eq!(other.message().await.unwrap()["type"], "token_expires");
    let next = key.issue("ed", &claims(3600));
    other.say(&json!({"type": "token", "token": next}).to_string()).await;
    assert_eq!(other.message().await.unwrap()["type"], "token_accepted");
    let closed = async {
        loop {
            if let Err(code) = one.message().await {
                return code;
            }
        }
    };
    let closed = timeout(PATIENCE, closed).await;
    assert_eq!(closed.expect("the session ends"), 4401);
    app.write("insert into orders (store_id) values (7)").await;
    let event = other.event().await;
    assert_eq!(event["type"], "new_order");

    // The acknowledgement names the holder of the JWT, and an operator can revoke this holder.
    other.acknowledge(event["id"].as_str().unwrap()).await;
    assert_eq!(other.message().await.unwrap()["type"], "acknowledged");
    let client = app.database.client().await;
    let listed = token::list(&client).await.unwrap();
    let holder = listed
        .iter()
        .find(|listed| listed.label.as_deref() == Some("anna"))
        .unwrap();
    assert!(holder.issuer.is_some());
    let acknowledged = "select token_id from vestnik.vst_acknowledgement";
    assert_eq!(
        client.query_one(acknowledged, &[]).await.unwrap().get::<_, i64>(0),
        holder.id.0
    );
    token::revoke(&client, &Which::Id(holder.id)).await.unwrap();
    let code = loop {
        if let Err(code) = other.message().await {
            break code;
        }
    };
    assert_eq!(code, 4503);
    let (status, told) = app.get(SESSION, Some(&key.issue("ed", &claims(3600)))).await;
    assert!(status == 401 && told.contains("token_revoked"), "{status} {told}");
    let somebody = with(claims(3600), "sub", json!("olga"));
    assert_eq!(app.get(SESSION, Some(&key.issue("ed", &somebody))).await.0, 200);
}

#[tokio::test]
async fn no_jwt_and_nothing_of_it_is_logged() {
    let (key, database) = (Key::ed25519(), Database::fresh().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    std::fs::write(&file, json!({"keys": [key.public("ed")]}).to_string()).unwrap();
    let settings = [
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_KEYS", file.to_str().unwrap()),
        ("JWT_ALGORITHMS", "EdDSA,ES256"),
    ];
    let node = Node::serving(&database, "http://127.0.0.1:9", &settings).await;
    node.until_metric("vestnik_jwt_keys", |keys| keys == 1.0).await;
    let (good, bad) = (key.issue("ed", &claims(60)), Key::ed25519().issue("ed", &claims(60)));
    for (jwt, status) in [(&good, 200), (&bad, 401)] {
        let bearer = format!("Bearer {jwt}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = crate::support::http::call(node.address().await, "GET", SESSION, &headers, None).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let line = node.until_said("a token was refused").await;
    assert!(
        line.contains("why=\"signature\"") && line.contains("client=127.0.0.1"),
        "{line}"
    );
    for line in node.log() {
        for part in good.split('.').chain(bad.split('.')) {
            assert!(!line.contains(&part[..20]), "{line}");
        }
    }
}
