//! Routes for operators and load balancers: health, readiness and metrics.

use std::sync::Arc;

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::error::ApiError;
use super::request::ApiRequest;
use super::{DatabaseContext, Databases, response};
use crate::feed::listener::ListenState;
use crate::infra::metrics as figures;

/// Always succeeds. If the process cannot respond, the health check fails by its time-out.
pub async fn healthz(_: Arc<Databases>, _: ApiRequest) -> Result<Response, ApiError> {
    Ok(response::text("ok\n"))
}

/// Returns whether load balancers should send clients to this node. A node with several databases is ready if at least
/// one of them works. A failed database has failed for all nodes. So another node could not serve the clients of this
/// database either.
pub async fn readyz(databases: Arc<Databases>, _: ApiRequest) -> Result<Response, ApiError> {
    let state = |database: &DatabaseContext| match (database.feed_health.is_fresh(), *database.listen_state.borrow()) {
        (false, _) => "away",
        (true, ListenState::Listening) => "listening",
        (true, _) => "polling",
    };
    let named = databases
        .all()
        .filter_map(|database| Some((database.name.clone()?, json!(state(database)))));
    let by_name: serde_json::Map<_, _> = named.collect();
    let is_well = |database: &DatabaseContext| database.feed_health.is_fresh() && !database.canary.has_failed();
    let ready = !*databases.any().draining.borrow() && databases.all().any(|database| is_well(database));
    let mut feeds = databases.all().map(|database| state(database));
    let feed = feeds.find(|state| *state != "away").unwrap_or("away");
    let mut canaries: Vec<&str> = databases
        .all()
        .map(|database| database.canary.state().as_str())
        .collect();
    let mut body = json!({"ready": ready, "feed": feed});
    if by_name.is_empty() {
        body["canary"] = canaries.remove(0).into();
    } else {
        let of_each = by_name.keys().cloned().zip(canaries.into_iter().map(Into::into));
        body["canaries"] = of_each.collect::<serde_json::Map<_, _>>().into();
        body["databases"] = by_name.into();
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(response::json(status, &body))
}

/// Returns the metrics in Prometheus' text format.
pub async fn metrics(_: Arc<Databases>, _: ApiRequest) -> Result<Response, ApiError> {
    Ok(response::text(figures::render()))
}
