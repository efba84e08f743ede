//! What the program answers over HTTP. The route table is a list; `auth` says who may, `server` has the sockets.

mod answer;
mod asked;
mod auth;
mod events;
mod operator;
mod orders;
mod panel;
mod problem;
mod proof;
mod server;
mod sessions;
mod sites;
mod store;

pub use server::{Error, Server};
pub use sites::Sites;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::upgrade::OnUpgrade;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::feed::Pulse;
use crate::listener::Hearing;
use crate::session::Hub;
use asked::{Body, Call, Query};
use problem::Problem;
use server::Permit;

/// What the routes need of a database.
pub struct Site {
    /// What it is called, where there are several.
    pub name: Option<String>,
    /// What sessions share.
    pub hub: Arc<Hub>,
    /// When the feed last read.
    pub pulse: Arc<Pulse>,
    /// Whether notifications reach us.
    pub hearing: watch::Receiver<Hearing>,
    /// Origins of pages that may connect, beside the own.
    pub allowed_origins: Vec<String>,
    /// Whether the node is going down.
    pub draining: watch::Receiver<bool>,
    /// Where sessions run.
    pub sessions: TaskTracker,
    /// Whether there is a bot.
    pub bot: Bot,
    /// For how long after a step a person may take it back.
    pub step_back: Duration,
}

/// Whether the program was given a bot of Telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bot {
    /// It was.
    On,
    /// It was not.
    Off,
}

/// An address, and what answers there.
pub struct Route {
    /// GET or POST; what answers GET answers HEAD.
    pub method: Method,
    /// `{store}` and `{id}` stand for one part of the path, `{file}` for all that follows.
    pub path: &'static str,
    answer: Handler,
}

/// Who answers.
enum Handler {
    /// What is about a store: the database that it lives in.
    Store(fn(Arc<Site>, Call) -> BoxFuture<'static, Response>),
    /// The node.
    Node(fn(Arc<Sites>, Call) -> BoxFuture<'static, Response>),
}

macro_rules! route {
    ($who:ident $method:ident $path:literal $handler:path) => {
        Route {
            method: Method::$method,
            path: $path,
            answer: Handler::$who(|site, call| Box::pin($handler(site, call))),
        }
    };
}

/// Every route.
pub static ROUTES: [Route; 20] = [
    route!(Node GET "/" panel::page),
    route!(Node GET "/panel/{file}" panel::any),
    route!(Node GET "/sw.js" panel::worker),
    route!(Node GET "/manifest.webmanifest" panel::manifest),
    route!(Store GET "/api/partner/ws/partner/{store}" sessions::web_socket),
    route!(Store GET "/api/partner/sse/{store}" sessions::server_sent_events),
    route!(Store GET "/api/partner/session/{store}" sessions::check),
    route!(Store GET "/api/partner/stores/{store}/store" store::card),
    route!(Store GET "/api/partner/stores/{store}/events" events::history),
    route!(Store POST "/api/partner/stores/{store}/events/{id}/ack" events::acknowledge),
    route!(Store GET "/api/partner/stores/{store}/orders" orders::list_orders),
    route!(Store POST "/api/partner/stores/{store}/orders/{id}/status" orders::change_order),
    route!(Store GET "/api/partner/stores/{store}/bookings" orders::list_bookings),
    route!(Store POST "/api/partner/stores/{store}/bookings/{id}/status" orders::change_booking),
    route!(Store POST "/api/partner/stores/{store}/reach" proof::say),
    route!(Store GET "/api/partner/stores/{store}/reach" proof::events),
    route!(Store GET "/api/partner/stores/{store}/summary" proof::summary),
    route!(Node GET "/healthz" operator::healthz),
    route!(Node GET "/readyz" operator::readyz),
    route!(Node GET "/metrics" operator::metrics),
];

/// What stands for the parts of a path, where it is the template's.
#[derive(Default)]
struct Parts<'a> {
    store: &'a str,
    id: &'a str,
}

/// Whether a path is one of these; a slash at its end makes no difference.
fn fits<'a>(template: &str, path: &'a str) -> Option<Parts<'a>> {
    let mut parts = Parts::default();
    let mut rest = path.strip_prefix('/')?;
    for part in template.split('/').skip(1) {
        if part == "{file}" {
            parts.id = rest;
            return (!rest.is_empty()).then_some(parts);
        }
        let (given, behind) = rest.split_once('/').unwrap_or((rest, ""));
        match part {
            "{store}" | "{id}" if given.is_empty() => return None,
            "{store}" => parts.store = given,
            "{id}" => parts.id = given,
            literal if literal != given => return None,
            _ => {}
        }
        rest = behind;
    }
    rest.is_empty().then_some(parts)
}

/// Every route, for warp.
fn routes(sites: Arc<Sites>) -> impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send {
    warp::any()
        .map(move || Arc::clone(&sites))
        .and(warp::method())
        .and(warp::path::full())
        .and(call())
        .then(answer)
        .recover(|_: Rejection| async { Ok(Problem::NotFound.into_response()) })
        .unify()
}

fn call() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::header::headers_cloned()
        .and(query)
        .and(warp::body::stream().map(Body::new))
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Permit>())
        .map(
            |headers: HeaderMap, query: String, body: Body, upgrade: Option<OnUpgrade>, permit: Option<Permit>| Call {
                store: String::new(),
                id: String::new(),
                headers,
                query: Query::parse(&query),
                body,
                upgrade,
                permit,
            },
        )
}

async fn answer(sites: Arc<Sites>, method: Method, path: FullPath, mut call: Call) -> Response {
    let path = path.as_str();
    let method = if method == Method::HEAD { Method::GET } else { method };
    if method == Method::OPTIONS && path.starts_with("/api/partner/") {
        return answer::to_page(Ok(answer::done()), sites.any(), &call.headers);
    }
    let mut problem = Problem::NotFound;
    for route in &ROUTES {
        let Some(parts) = fits(route.path, path) else { continue };
        if route.method != method {
            problem = Problem::OtherMethod;
            continue;
        }
        parts.store.clone_into(&mut call.store);
        parts.id.clone_into(&mut call.id);
        return match route.answer {
            Handler::Node(answer) => answer(sites, call).await,
            Handler::Store(answer) => match sites.of(&call.store).await {
                Ok(site) => answer(site, call).await,
                Err(problem) => answer::to_page(Err(problem), sites.any(), &call.headers),
            },
        };
    }
    problem.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_by_its_template() {
        let of = |template, path| fits(template, path).map(|parts| (parts.store, parts.id));
        assert_eq!(of("/", "/"), Some(("", "")));
        assert_eq!(of("/", "/x"), None);
        let status = "/stores/{store}/orders/{id}/status";
        assert_eq!(of(status, "/stores/7/orders/a%2Fb/status"), Some(("7", "a%2Fb")));
        assert_eq!(of(status, "/stores/7/orders/9/status/"), Some(("7", "9")));
        for path in [
            "/stores/7/orders/status",
            "/stores//orders/9/status",
            "/stores/7/orders/9",
            "/stores/7/orders/9/status/x",
            "",
        ] {
            assert_eq!(of(status, path), None, "{path}");
        }
        assert_eq!(of("/panel/{file}", "/panel/icons/a.png"), Some(("", "icons/a.png")));
        assert_eq!(of("/panel/{file}", "/panel/"), None);
    }
}
