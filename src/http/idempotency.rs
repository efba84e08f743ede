//! Handles the header `Idempotency-Key`: a client may repeat a POST whose response it did not receive, and the POST is
//! executed only once.

use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use warp::http::header::{HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::Answered;
use super::auth::Access;
use super::error::ApiError;
use super::request::{ApiRequest, Body};
use super::response;
use crate::infra::db::Pool;
use crate::token::idempotency::{self, Claimed, Executed, Execution, IdempotencyKey};

/// Maximum length of an `Idempotency-Key`, in characters.
pub const MAX_KEY_CHARACTERS: usize = 255;
/// Maximum size of the body of a request with an `Idempotency-Key`, in bytes. No route accepts a larger body.
const MAX_BODY_BYTES: usize = 32 * 1024;
const KEY: &str = "idempotency-key";
/// This response header tells the client that the response repeats the response of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const WANTED: &str = "one key of 1 to 255 visible ASCII characters, such as a UUID";

/// Executes a request to a route of one store. A POST with an `Idempotency-Key` is executed once, and a repetition gets
/// the first response. For other methods the key is ignored, because a repeated GET, PUT or DELETE has no further
/// effect.
pub async fn answer(
    access: Access,
    mut call: ApiRequest,
    method: &Method,
    path: &str,
    handler: fn(Access, ApiRequest) -> Answered,
) -> Result<Response, ApiError> {
    let key = match *method {
        Method::POST => key(&call.headers)?,
        _ => None,
    };
    let Some(key) = key else {
        return handler(access, call).await;
    };
    let body = call.body.whole(MAX_BODY_BYTES, "the body must arrive whole").await?;
    let mut hash = Sha256::new();
    let pairs = call.query.pairs().flat_map(|(name, value)| [name, value]);
    for part in [path].into_iter().chain(pairs).map(str::as_bytes).chain([&*body]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let (token, store) = (access.grant.id, access.store.clone());
    let pool = access.database.hub.token_pool.clone();
    let claimed = idempotency::claim(&pool, &IdempotencyKey { token, store, key }, &hash.finalize()).await;
    let execution = match claimed.map_err(ApiError::database)? {
        Claimed::Execute(execution) => execution,
        Claimed::Answered(status, body) => return replay(status, body),
        Claimed::OtherRequest => return Err(ApiError::KeyOfOtherRequest),
        Claimed::UnderWay => return Err(ApiError::KeyUnderWay),
    };
    call.request = Some(execution.id);
    call.body = Body::of(body);
    // The request is executed in a separate task, because the client may disconnect before the response. The task saves
    // the response, so that a repetition gets it.
    let sessions = access.database.sessions.clone();
    let executed = sessions.spawn(async move {
        let answered = handler(access, call).await.unwrap_or_else(ApiError::into_response);
        keep(&pool, execution, answered).await
    });
    executed.await.map_err(ApiError::database)?
}

/// The key of the request, without quotes. The IETF's draft for this header encloses the key in quotes. `None`: the
/// request has no key.
fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let wrong = ApiError::BadParameter("Idempotency-Key", WANTED);
    let mut given = headers.get_all(KEY).into_iter();
    let key = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => key.to_str().map_err(|_| wrong.clone())?,
        (Some(_), Some(_)) => return Err(wrong),
    };
    let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    let key = quoted.unwrap_or(key);
    let is_key = (1..=MAX_KEY_CHARACTERS).contains(&key.len()) && key.bytes().all(|letter| letter.is_ascii_graphic());
    is_key.then(|| Some(key.to_owned())).ok_or(wrong)
}

/// Saves the response if it is final, so that a repetition of the request gets the same response. If the request
/// failed, or was refused before it had an effect, saves no response. Returns the response unchanged.
async fn keep(pool: &Pool, execution: Execution, answered: Response) -> Result<Response, ApiError> {
    let (head, body) = answered.into_parts();
    let body = body.collect().await.map_err(ApiError::database)?.to_bytes();
    let outcome = match head.status {
        StatusCode::BAD_REQUEST
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::TOO_MANY_REQUESTS => Executed::NotBegun,
        status if status.is_server_error() => Executed::Failed,
        status => Executed::Answered(status.as_u16(), String::from_utf8_lossy(&body).into_owned()),
    };
    if let Err(error) = idempotency::complete(pool, execution, &outcome).await {
        tracing::warn!(%error, request = execution.id.0, "the answer to a request with a key was not saved: a repetition is executed again");
    }
    Ok(Response::from_parts(head, body.into()))
}

/// Builds the response to a repeated request from the saved `status` and `body` of the first response.
fn replay(status: u16, body: String) -> Result<Response, ApiError> {
    let status = StatusCode::from_u16(status).map_err(ApiError::database)?;
    let mut answer = match body.is_empty() {
        true => response::done(),
        false => response::json_text(status, body),
    };
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[&str]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(KEY, key.parse().unwrap());
        }
        key(&headers)
    }

    #[test]
    fn a_key_has_1_to_255_visible_characters_and_quotes_around_it_or_none() {
        assert_eq!(of(&[]), Ok(None));
        for given in ["8e03978e-40d5", "\"8e03978e-40d5\""] {
            assert_eq!(of(&[given]), Ok(Some("8e03978e-40d5".into())));
        }
        let (longest, too_long) = ("k".repeat(MAX_KEY_CHARACTERS), "k".repeat(MAX_KEY_CHARACTERS + 1));
        assert_eq!(of(&[&longest]), Ok(Some(longest.clone())));
        for keys in [[""].as_slice(), &["\"\""], &["a b"], &["a", "a"], &[&too_long]] {
            assert!(of(keys).is_err(), "{keys:?}");
        }
    }
}
