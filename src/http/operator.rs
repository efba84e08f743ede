//! How the program is, for those who run it.

use std::sync::Arc;

use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::asked::Call;
use super::{Site, answer};
use crate::listener::Hearing;
use crate::metrics as figures;

/// The process lives.
pub async fn healthz(_: Arc<Site>, _: Call) -> Response {
    answer::text("ok\n")
}

/// Whether this node should get sockets.
pub async fn readyz(site: Arc<Site>, _: Call) -> Response {
    let hearing = *site.hearing.borrow();
    let ready = !*site.draining.borrow() && site.pulse.is_fresh();
    let by = if hearing == Hearing::Listening {
        "listening"
    } else {
        "polling"
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer::json(status, &json!({"ready": ready, "feed": by}))
}

/// The figures, for Prometheus.
pub async fn metrics(_: Arc<Site>, _: Call) -> Response {
    answer::text(figures::render())
}
