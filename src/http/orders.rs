//! The lists of a store's orders and bookings, and what a person makes of one.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::asked::Call;
use super::problem::Problem;
use super::{Site, answer, auth};
use crate::domain::status::{Status, SubjectKind};
use crate::sources::list::{self, ListQuery, ListResult, StatusFilter};
use crate::sources::status_change::{self, CurrentStatus, StatusChange, StatusChangeOutcome, Way};
use crate::token::Grant;

/// Rows of a page, where nothing else is asked for.
const LIST_DEFAULT: usize = 100;
/// Bytes of a change's body.
const MAX_CHANGE_BYTES: usize = 4 * 1024;
/// Characters of a reason.
const MAX_REASON_CHARACTERS: usize = 500;
/// Characters of who changed it.
const MAX_BY_CHARACTERS: usize = 60;
/// Minutes that a preparation may take.
const MINUTES: std::ops::RangeInclusive<i32> = 1..=600;

/// The orders.
pub async fn list_orders(site: Arc<Site>, call: Call) -> Response {
    list_of(&site, &call, SubjectKind::Order).await
}

/// The bookings.
pub async fn list_bookings(site: Arc<Site>, call: Call) -> Response {
    list_of(&site, &call, SubjectKind::Booking).await
}

async fn list_of(site: &Site, call: &Call, kind: SubjectKind) -> Response {
    let listed = async {
        let (store, _) = auth::open(site, call).await?;
        let wanted = ListQuery {
            store: &store,
            kind,
            statuses: statuses(call.query.get("status"), kind)?,
            source: call.query.text("source")?,
            before: call.query.text("before")?,
            before_source: call.query.text("before_source")?,
            limit: call.query.limit(LIST_DEFAULT, list::MAX_ROWS)?,
        };
        let sources = site.hub.sources.loaded(&site.hub.pool).await.map_err(Problem::database)?;
        let page = match list::list(&site.hub.pool, &sources, &wanted).await.map_err(Problem::database)? {
            ListResult::Page(page) => page,
            ListResult::UnknownBefore => return Err(Problem::BadParameter("before", "the id of a row of this list")),
        };
        let noun = match kind {
            SubjectKind::Order => "orders",
            SubjectKind::Booking => "bookings",
        };
        let mut body = json!({noun: page.rows, "cursor": page.cursor, "more": page.more});
        if !page.unavailable.is_empty() {
            body["unavailable"] = json!(page.unavailable);
        }
        Ok(answer::json(StatusCode::OK, &body))
    };
    answer::to_page(listed.await, site, &call.headers)
}

/// `active`, `all`, or names with commas between them.
fn statuses(asked: Option<&str>, kind: SubjectKind) -> Result<StatusFilter, Problem> {
    match asked {
        None | Some("active") => Ok(StatusFilter::active(kind)),
        Some("all") => Ok(StatusFilter::Any),
        Some(names) => {
            let named: Option<Vec<Status>> = names.split(',').map(Status::from_name).collect();
            named.map(StatusFilter::These).ok_or(Problem::BadStatus)
        }
    }
}

/// What becomes of an order.
pub async fn change_order(site: Arc<Site>, call: Call) -> Response {
    change(&site, call, SubjectKind::Order).await
}

/// What becomes of a booking.
pub async fn change_booking(site: Arc<Site>, call: Call) -> Response {
    change(&site, call, SubjectKind::Booking).await
}

/// What a panel's button says.
#[derive(Deserialize)]
struct Wish {
    status: String,
    from: Option<String>,
    reason: Option<String>,
    minutes: Option<i32>,
    by: Option<String>,
    source: Option<String>,
}

const WISH: &str = "{\"status\":\"preparing\"}, and if you like \"from\" (what it is now), \"reason\" (up to 500 characters), \"minutes\" (1 to 600), \
     \"by\" (up to 60 characters), \"source\" (where its key stands in several)";

async fn change(site: &Site, call: Call, kind: SubjectKind) -> Response {
    let headers = call.headers.clone();
    let changed = async {
        let (store, grant) = auth::open(site, &call).await?;
        let key = call.key()?;
        let wish: Wish = call.body.json(MAX_CHANGE_BYTES, WISH).await?;
        let to = Status::from_name(&wish.status).ok_or(Problem::BadStatus)?;
        let from = wish.from.as_deref();
        let from = from.map(|from| Status::from_name(from).ok_or(Problem::BadStatus));
        check(&wish)?;
        let by = wish.by.unwrap_or_else(|| name(&grant));
        let change = StatusChange {
            store: &store,
            kind,
            source: wish.source.as_deref(),
            key: &key,
            to,
            from: from.transpose()?,
            reason: wish.reason.as_deref().filter(|reason| !reason.trim().is_empty()),
            minutes: wish.minutes,
            by: &by,
            way: Way::Panel,
            step_back: site.step_back,
        };
        let sources = site.hub.sources.loaded(&site.hub.pool).await.map_err(Problem::database)?;
        let changed = status_change::change_status(&site.hub.pool, &sources, &change)
            .await
            .map_err(Problem::database)?;
        match changed {
            StatusChangeOutcome::Done { source, previous } => {
                let becomes = sources.by_name(&source).map_or(to, |source| source.mapping.status.becomes(to));
                let body = json!({"id": key, "source": source, "status": becomes.as_str(), "previous_status": previous.as_str()});
                Ok(answer::json(StatusCode::OK, &body))
            }
            StatusChangeOutcome::Already(current) | StatusChangeOutcome::NotAllowed(current) => Err(conflict(current)),
            StatusChangeOutcome::Refused { message, .. } => Err(Problem::StatusRefused { message }),
            StatusChangeOutcome::Denied(_) => Err(Problem::StatusNotPossible),
            StatusChangeOutcome::NoWord(_) => Err(Problem::StatusUnknownToShop(to.as_str())),
            StatusChangeOutcome::Ambiguous(sources) => Err(Problem::AmbiguousOrder(sources)),
            StatusChangeOutcome::Unknown => Err(Problem::UnknownOrder),
        }
    };
    answer::to_page(changed.await, site, &headers)
}

fn conflict(current: CurrentStatus) -> Problem {
    Problem::StatusConflict {
        status: current.status.as_str(),
        by: current.by,
    }
}

fn check(wish: &Wish) -> Result<(), Problem> {
    let fits = |text: &Option<String>, most: usize| {
        let text = text.as_deref().unwrap_or_default();
        text.chars().count() <= most && !text.contains('\0')
    };
    let named = wish.by.as_ref().is_none_or(|by| !by.trim().is_empty());
    let minutes = wish.minutes.is_none_or(|minutes| MINUTES.contains(&minutes));
    if named && minutes && fits(&wish.reason, MAX_REASON_CHARACTERS) && fits(&wish.by, MAX_BY_CHARACTERS) {
        Ok(())
    } else {
        Err(Problem::BadBody(WISH))
    }
}

/// What others are told of who holds a token.
fn name(grant: &Grant) -> String {
    match &grant.label {
        Some(label) => label.chars().take(MAX_BY_CHARACTERS).collect(),
        None => format!("token {}", grant.id),
    }
}
