//! The HTTP interface. This file has the list of routes, and finds the handler of each request. `auth` authorizes
//! requests; `server` opens the sockets and accepts connections.

mod auth;
mod auth_without_store;
mod canary;
mod databases;
mod error;
mod events;
mod hosts_and_origins;
mod idempotency;
mod operator;
mod orders;
mod panel;
mod pause;
mod receipts;
mod request;
mod request_limits;
mod response;
mod server;
mod sessions;
mod stock;
mod store;
mod stores;

pub use canary::{Canary, CanaryFailure, CanaryReport};
pub use databases::Databases;
pub use server::{Certificate, ConnectionLimits, Error, Loopback, Proxies, Server, Unreached, watch_certificate};

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

use crate::fanout::session::Hub;
use crate::feed::FeedHealth;
use crate::feed::listener::ListenState;
use crate::token::Scope;
use auth::Access;
use auth_without_store::TokenAccess;
use error::ApiError;
use request::{ApiRequest, Body, Query};
use server::Connection;

/// The common prefix of the paths to which web pages of other origins may send requests.
const API: &str = "/api/partner/";

/// The parts of the node that belong to one served database, as far as the routes use them.
pub struct DatabaseContext {
    /// The index of the database in the settings.
    pub number: usize,
    /// The name of the database in the settings. `None`: the node serves only one database, which has no name.
    pub name: Option<String>,
    /// The state that the sessions and requests of this database share, such as the router and the connection pools.
    pub hub: Arc<Hub>,
    /// Records when the feed last read the journal.
    pub feed_health: Arc<FeedHealth>,
    /// The state of the LISTEN connection: whether notifications of Postgres reach the node.
    pub listen_state: watch::Receiver<ListenState>,
    /// Whether the node is shutting down.
    pub draining: watch::Receiver<bool>,
    /// Tracks the tasks of sessions, so that a shutdown can wait for them.
    pub sessions: TaskTracker,
    /// The results of the node's self-test of this database.
    pub canary: CanaryReport,
    /// Whether a Telegram bot is configured.
    pub bot: Bot,
    /// How long after a status change a person may undo the change. 0: never.
    pub step_back: Duration,
}

/// Whether a Telegram bot is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bot {
    /// A Telegram bot is configured.
    On,
    /// No Telegram bot is configured.
    Off,
}

/// A route: its method and path, and the handler of its requests.
pub struct Route {
    /// GET, POST, PUT or DELETE. A GET route also handles HEAD.
    pub method: Method,
    /// The path. `{store}` and `{id}` each match one segment of a request's path; `{file}` matches the rest of the
    /// path.
    pub path: &'static str,
    /// The names of the query parameters. A route under `/api/partner/` refuses other names, because a misspelt
    /// parameter would be ignored otherwise.
    pub parameters: &'static [&'static str],
    answer: Handler,
}

impl Route {
    /// The scope that a token needs for this route. `None`: the route needs no token.
    pub fn scope(&self) -> Option<Scope> {
        match self.answer {
            Handler::Store(scope, ..) | Handler::Token(scope, ..) => Some(scope),
            Handler::Node(_) | Handler::Health(_) => None,
        }
    }
}

/// The future that a handler returns. Its result is the response, or an error for the client.
type Answered = BoxFuture<'static, Result<Response, ApiError>>;

/// The handler of a route. Each variant needs another kind of authorization.
#[derive(Clone, Copy)]
enum Handler {
    /// A route of one store. The token must give access to the store, with at least this scope. The client must send
    /// the token in one of the headers that `TokenLocation` allows.
    Store(Scope, auth::TokenLocation, fn(Access, ApiRequest) -> Answered),
    /// A route that names no store. It serves all stores to which the token gives access, in each database in which the
    /// token has at least this scope.
    Token(Scope, auth::TokenLocation, fn(TokenAccess, ApiRequest) -> Answered),
    /// A route that needs no token.
    Node(fn(Arc<Databases>, ApiRequest) -> Answered),
    /// A route for health checks or metrics. Rate limits and host rules do not apply, because the response is cheap,
    /// and load balancers depend on it.
    Health(fn(Arc<Databases>, ApiRequest) -> Answered),
}

macro_rules! route {
    (Socket $($route:tt)+) => { route!(Store[Scope::Read, auth::TokenLocation::HeaderOrSubprotocol] $($route)+) };
    (ReadAll $($route:tt)+) => { route!(Token[Scope::Read, auth::TokenLocation::Header] $($route)+) };
    (StreamAll $($route:tt)+) => { route!(Token[Scope::Read, auth::TokenLocation::HeaderOrSubprotocol] $($route)+) };
    (Read $($route:tt)+) => { route!(Store[Scope::Read, auth::TokenLocation::Header] $($route)+) };
    (Panel $($route:tt)+) => { route!(Store[Scope::Panel, auth::TokenLocation::Header] $($route)+) };
    (Manager $($route:tt)+) => { route!(Store[Scope::Manager, auth::TokenLocation::Header] $($route)+) };
    ($who:ident $([$scope:path, $location:path])? $method:ident $path:literal $handler:path $([$($parameter:literal),+])?) => {
        Route {
            method: Method::$method,
            path: $path,
            parameters: &[$($($parameter),+)?],
            answer: Handler::$who($($scope, $location,)? |of, call| Box::pin($handler(of, call))),
        }
    };
}

/// The routes of the server for panels and other clients.
pub static ROUTES: [Route; 28] = [
    route!(Node GET "/" panel::page),
    route!(Node GET "/panel/{file}" panel::any),
    route!(Node GET "/sw.js" panel::worker),
    route!(Node GET "/manifest.webmanifest" panel::manifest),
    route!(Socket GET "/api/partner/ws/partner/{store}" sessions::web_socket ["after"]),
    route!(Read GET "/api/partner/sse/{store}" sessions::server_sent_events ["after", "panel"]),
    route!(Read GET "/api/partner/session/{store}" sessions::check),
    route!(ReadAll GET "/api/partner/stores" stores::list ["after", "limit"]),
    route!(StreamAll GET "/api/partner/stream" stores::stream ["stores", "types", "database", "after"]),
    route!(Read GET "/api/partner/stores/{store}/store" store::show),
    route!(Read GET "/api/partner/stores/{store}/pause" pause::show),
    route!(Panel PUT "/api/partner/stores/{store}/pause" pause::begin),
    route!(Panel DELETE "/api/partner/stores/{store}/pause" pause::end ["panel"]),
    route!(Read GET "/api/partner/stores/{store}/stop-list" stock::show),
    route!(Panel PUT "/api/partner/stores/{store}/stop-list" stock::stop),
    route!(Panel DELETE "/api/partner/stores/{store}/stop-list" stock::put_back ["item", "panel"]),
    route!(Read GET "/api/partner/stores/{store}/events" events::history ["after", "limit", "panel"]),
    route!(Read GET "/api/partner/stores/{store}/events/{id}" events::whole),
    route!(Panel POST "/api/partner/stores/{store}/events/{id}/ack" events::acknowledge ["panel"]),
    route!(Read GET "/api/partner/stores/{store}/events/{id}/ack" events::acknowledgement),
    route!(Read GET "/api/partner/stores/{store}/orders" orders::list_orders ["status", "source", "limit", "before", "before_source"]),
    route!(Panel POST "/api/partner/stores/{store}/orders/{id}/status" orders::change_order),
    route!(Read GET "/api/partner/stores/{store}/bookings" orders::list_bookings ["status", "source", "limit", "before", "before_source"]),
    route!(Panel POST "/api/partner/stores/{store}/bookings/{id}/status" orders::change_booking),
    route!(Panel POST "/api/partner/stores/{store}/receipts" receipts::record),
    route!(Manager GET "/api/partner/stores/{store}/receipts" receipts::events ["from", "to", "order", "before", "limit"]),
    route!(Manager GET "/api/partner/stores/{store}/summary" receipts::summary ["from", "to"]),
    route!(Health GET "/healthz" operator::healthz),
];

/// The routes of the server for operators.
pub static OPS_ROUTES: [Route; 3] = [
    route!(Health GET "/healthz" operator::healthz),
    route!(Health GET "/readyz" operator::readyz),
    route!(Health GET "/metrics" operator::metrics),
];

/// The variable segments of a request's path.
#[derive(Default)]
struct PathSegments<'a> {
    store: &'a str,
    id: &'a str,
}

/// Matches a request's path against a route's path. A slash at the end is ignored. Returns the variable segments.
/// `None`: the path does not match.
fn fits<'a>(template: &str, path: &'a str) -> Option<PathSegments<'a>> {
    let mut parts = PathSegments::default();
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

/// Builds the warp filter that handles all requests to these routes.
pub fn routes(
    databases: Arc<Databases>,
    routes: &'static [Route],
) -> impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || (Arc::clone(&databases), routes))
        .untuple_one()
        .and(warp::method())
        .and(warp::path::full())
        .and(call())
        .then(answer)
        .recover(|_: Rejection| async { Ok(ApiError::NotFound.into_response()) })
        .unify()
}

fn call() -> impl Filter<Extract = (ApiRequest,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::header::headers_cloned()
        .and(query)
        .and(warp::body::stream().map(Body::new))
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<Arc<Connection>>())
        .map(
            |headers: HeaderMap, query: String, body: Body, upgrade: Option<OnUpgrade>, connection: Arc<Connection>| {
                ApiRequest {
                    store: String::new(),
                    id: String::new(),
                    headers,
                    query: Query::parse(&query),
                    body,
                    upgrade,
                    connection,
                    request: None,
                }
            },
        )
}

async fn answer(
    databases: Arc<Databases>,
    routes: &'static [Route],
    method: Method,
    path: FullPath,
    call: ApiRequest,
) -> Response {
    let headers = call.headers.clone();
    let answered = handle(Arc::clone(&databases), routes, &method, path.as_str(), call).await;
    // A preflight from any origin gets a permissive response. Otherwise a page of a forbidden origin could not read
    // the error of its request.
    let is_preflight = method == Method::OPTIONS && path.as_str().starts_with(API);
    let any_origin = is_preflight || matches!(answered, Err(ApiError::ForeignOrigin));
    let mut response = answered.unwrap_or_else(ApiError::into_response);
    databases.rules.add_headers(&mut response, &headers, any_origin);
    response
}

async fn handle(
    databases: Arc<Databases>,
    routes: &'static [Route],
    method: &Method,
    path: &str,
    mut call: ApiRequest,
) -> Result<Response, ApiError> {
    let client = databases.rules.client(call.connection.peer, &call.headers);
    let found = find(routes, method, path).map(|(route, parts)| {
        parts.store.clone_into(&mut call.store);
        parts.id.clone_into(&mut call.id);
        (route.answer, route.parameters)
    });
    let is_allowed = databases.rules.allow_host(&call.headers);
    let refused = match found {
        Ok((Handler::Health(answer), _)) => return answer(databases, call).await,
        _ if !is_allowed => ApiError::OtherHost,
        Ok((Handler::Store(scope, location, answer), parameters)) => {
            match auth::authorize(&databases, &call, scope, location, client).await {
                Ok(access) => {
                    call.query.allow_only(parameters)?;
                    return idempotency::answer(access, call, method, path, answer).await;
                }
                Err(problem) if problem.is_of_guest() => problem,
                Err(problem) => return Err(problem),
            }
        }
        Ok((Handler::Token(scope, location, answer), parameters)) => {
            match auth_without_store::authorize(&databases, &call, scope, location, client).await {
                Ok(access) => {
                    call.query.allow_only(parameters)?;
                    return answer(access, call).await;
                }
                Err(problem) if problem.is_of_guest() => problem,
                Err(problem) => return Err(problem),
            }
        }
        Ok((Handler::Node(answer), _)) => {
            databases.limits.count_guest(client).await?;
            return answer(databases, call).await;
        }
        Err(_) if method == Method::OPTIONS && path.starts_with(API) => {
            databases.limits.count_guest(client).await?;
            return Ok(response::done());
        }
        Err(problem) => problem,
    };
    databases.limits.count_guest(client).await?;
    Err(refused)
}

/// Finds the route of a request, and the variable segments of its path.
fn find<'a>(
    routes: &'static [Route],
    method: &Method,
    path: &'a str,
) -> Result<(&'static Route, PathSegments<'a>), ApiError> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut others = Vec::new();
    for route in routes {
        match fits(route.path, path) {
            Some(parts) if route.method == *method => return Ok((route, parts)),
            Some(_) => others.push(&route.method),
            None => {}
        }
    }
    Err(match others.is_empty() {
        true => ApiError::NotFound,
        false => ApiError::OtherMethod(allowed(&others, path)),
    })
}

/// The methods of a path, in the form of the header `Allow`.
fn allowed(methods: &[&Method], path: &str) -> String {
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    names.extend(names.contains(&"GET").then_some("HEAD"));
    names.extend(path.starts_with(API).then_some("OPTIONS"));
    names.join(", ")
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
