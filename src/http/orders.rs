//! The lists of a store's orders and bookings, and what a person makes of one.

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer;
use super::asked::{Call, is_name};
use super::auth::Access;
use super::problem::Problem;
use crate::attachment::Kind;
use crate::board::{self, Listed, Statuses, Wanted};
use crate::order::{self, Change, Changed, Status, Way};
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
pub async fn list_orders(access: Access, call: Call) -> Result<Response, Problem> {
    list(&access, &call, Kind::Order).await
}

/// The bookings.
pub async fn list_bookings(access: Access, call: Call) -> Result<Response, Problem> {
    list(&access, &call, Kind::Booking).await
}

async fn list(access: &Access, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let wanted = Wanted {
        store: &access.store,
        kind,
        statuses: statuses(call.query.get("status"), kind)?,
        before: call.query.text("before")?,
        limit: call.query.limit(LIST_DEFAULT, board::MAX_ROWS)?,
    };
    let listed = board::list(&access.site.hub.pool, &wanted).await;
    let board = match listed.map_err(Problem::database)? {
        Listed::Board(board) => board,
        Listed::UnknownBefore => return Err(Problem::BadParameter("before", "the id of a row of this list")),
    };
    let noun = match kind {
        Kind::Order => "orders",
        Kind::Booking => "bookings",
    };
    let (rows, cursor, more) = (board.rows.join(","), board.cursor, board.more);
    let body = format!(r#"{{"{noun}":[{rows}],"cursor":"{cursor}","more":{more}}}"#);
    Ok(answer::json_text(StatusCode::OK, body))
}

/// `active`, `all`, or names with commas between them.
fn statuses(asked: Option<&str>, kind: Kind) -> Result<Statuses, Problem> {
    match asked {
        None | Some("active") => Ok(Statuses::active(kind)),
        Some("all") => Ok(Statuses::Any),
        Some(names) => {
            let named: Option<Vec<Status>> = names.split(',').map(Status::from_name).collect();
            named.map(Statuses::These).ok_or(Problem::BadStatus)
        }
    }
}

/// What becomes of an order.
pub async fn change_order(access: Access, call: Call) -> Result<Response, Problem> {
    change(access, call, Kind::Order).await
}

/// What becomes of a booking.
pub async fn change_booking(access: Access, call: Call) -> Result<Response, Problem> {
    change(access, call, Kind::Booking).await
}

/// What a panel's button says.
#[derive(Deserialize)]
struct Wish {
    status: String,
    from: Option<String>,
    reason: Option<String>,
    minutes: Option<i32>,
    by: Option<String>,
}

const WISH: &str = "{\"status\":\"preparing\"}, and if you like \"from\" (what it is now), \"reason\" (up to 500 characters), \"minutes\" (1 to 600), \
     \"by\" (up to 60 characters)";

async fn change(access: Access, call: Call, kind: Kind) -> Result<Response, Problem> {
    let key = call.key()?;
    let wish: Wish = call.body.json(MAX_CHANGE_BYTES, WISH).await?;
    let to = Status::from_name(&wish.status).ok_or(Problem::BadStatus)?;
    let from = wish.from.as_deref();
    let from = from.map(|from| Status::from_name(from).ok_or(Problem::BadStatus));
    check(&wish)?;
    let by = wish.by.unwrap_or_else(|| name(&access.grant));
    let change = Change {
        store: &access.store,
        kind,
        key: &key,
        to,
        from: from.transpose()?,
        reason: wish.reason.as_deref().filter(|reason| !reason.trim().is_empty()),
        minutes: wish.minutes,
        by: &by,
        token: Some(access.grant.id),
        way: Way::Panel,
    };
    let changed = order::change_status(&access.site.hub.pool, &change).await;
    match changed.map_err(Problem::database)? {
        Changed::Done { previous } => {
            let body = json!({"id": key, "status": to.as_str(), "previous_status": previous});
            Ok(answer::json(StatusCode::OK, &body))
        }
        Changed::Already { status, by } | Changed::NotAllowed { status, by } => {
            Err(Problem::StatusConflict { status, by })
        }
        Changed::Refused { .. } => Err(Problem::StatusRefused),
        Changed::Unknown => Err(Problem::UnknownOrder),
    }
}

fn check(wish: &Wish) -> Result<(), Problem> {
    let named = wish.by.as_ref().is_none_or(|by| is_name(by, MAX_BY_CHARACTERS));
    let minutes = wish.minutes.is_none_or(|minutes| MINUTES.contains(&minutes));
    let reason = wish.reason.as_deref().unwrap_or_default();
    let reason_fits = reason.chars().count() <= MAX_REASON_CHARACTERS
        && !reason
            .chars()
            .any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'));
    if named && minutes && reason_fits {
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
