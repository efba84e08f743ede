//! Routes for all stores to which a token gives access: the list of these stores, and one stream for several of them.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::auth;
use super::auth_without_store::{Opened, TokenAccess};
use super::error::ApiError;
use super::request::ApiRequest;
use super::response;
use super::sessions;
use crate::domain::event::{EventType, StoreId};
use crate::domain::store_set::StoreSet;
use crate::fanout::router::ManyStores;
use crate::fanout::session::Session;
use crate::store::stores_of_token::{self, OpenedStore};

/// Number of stores on one page, if the client gives no limit. The maximum is `PAGE_LIMIT`.
const PAGE_DEFAULT: usize = 100;
const PAGE_LIMIT: usize = 500;
/// Maximum number of stores that a client may list in its request for a stream. The head of a request has room for a
/// few thousand short ids.
const MAX_LISTED: usize = 5000;

const A_DATABASE: &str =
    "the name of a database that your token opens, as GET /api/partner/stores gives it; a stream is of one database";
const ONE_DATABASE: &str = "ids of stores of one database, with commas between them, or *";
const TYPES: &str = "types of events, with commas between them, such as new_order,order_cancelled";

/// The start of a page in the list of stores: the page begins after this store of this database.
#[derive(Debug, Default, PartialEq, Eq)]
struct Start {
    database: usize,
    store: String,
}

impl Start {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}/{}", self.database, self.store))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (database, store) = text.split_once('/').filter(|(_, store)| !store.contains('\0'))?;
        Some(Self {
            database: database.parse().ok()?,
            store: store.to_owned(),
        })
    }
}

/// Lists the stores to which the token gives access.
pub async fn list(access: TokenAccess, call: ApiRequest) -> Result<Response, ApiError> {
    let limit = call.query.limit(PAGE_DEFAULT, PAGE_LIMIT)?;
    let mut from = match call.query.get("after") {
        None => Start::default(),
        Some(text) => Start::parse(text).ok_or(ApiError::BadParameter("after", "the next_after of a page"))?,
    };
    let (mut rows, mut next) = (Vec::new(), None);
    let mut unavailable = access.unavailable.clone();
    for opened in &access.opened {
        let number = opened.database.number;
        if number < from.database {
            continue;
        }
        if number > from.database {
            from = Start {
                database: number,
                store: String::new(),
            };
        }
        let left = limit - rows.len();
        if left == 0 {
            next = Some(from);
            break;
        }
        match page(&access, opened, &from.store, left).await {
            Ok((stores, more)) => {
                rows.extend(stores.into_iter().map(|store| row(opened, store)));
                if let Some(store) = more {
                    next = Some(Start {
                        database: number,
                        store,
                    });
                    break;
                }
            }
            Err(error) => match &opened.database.name {
                Some(name) => unavailable.push(name.clone()),
                None => return Err(error),
            },
        }
    }
    let mut body = json!({"stores": rows, "more": next.is_some()});
    if let Some(next) = next {
        body["next_after"] = json!(next.to_text());
    }
    if !unavailable.is_empty() {
        body["unavailable"] = json!(unavailable);
    }
    Ok(response::json(StatusCode::OK, &body))
}

/// Reads at most `limit` stores of one database, with ids after `after`. Also returns the id after which the next page
/// begins. `None`: the database has no more stores.
async fn page(
    access: &TokenAccess,
    opened: &Opened,
    after: &str,
    limit: usize,
) -> Result<(Vec<OpenedStore>, Option<String>), ApiError> {
    let Opened { database, grant, .. } = opened;
    let (_turn, pool) = database.hub.reads.turn(&format!("token {}", grant.id)).await?;
    let listed = match access.databases.stores_of(database, &grant.stores) {
        StoreSet::AllBut(others) => {
            return stores_of_token::known_after(pool, after, limit, &others)
                .await
                .map_err(ApiError::database);
        }
        StoreSet::One(store) => HashSet::from([store]),
        StoreSet::These(stores) => stores,
    };
    let mut listed: Vec<StoreId> = listed.into_iter().filter(|store| store.as_str() > after).collect();
    listed.sort_unstable();
    let (mut here, mut next) = (Vec::new(), None);
    for store in listed {
        if access.is_of_all() {
            match access.databases.of(&store).await {
                Ok(of) if of.number == database.number => {}
                Ok(_) | Err(ApiError::UnknownStore) => continue,
                Err(error) => return Err(error),
            }
        }
        if here.len() == limit {
            next = here.last().cloned();
            break;
        }
        here.push(store.as_str().to_owned());
    }
    let stores = stores_of_token::of(pool, &here).await.map_err(ApiError::database)?;
    Ok((stores, next))
}

fn row(opened: &Opened, store: OpenedStore) -> Value {
    let mut row = json!({"id": store.id, "scope": opened.grant.scope.as_str()});
    let members = [
        ("name", store.name.map(Value::from)),
        ("database", opened.database.name.clone().map(Value::from)),
        ("open", store.is_open.map(Value::from)),
        ("pause", store.pause.map(|pause| pause.to_json())),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    row
}

/// Opens one stream for several stores: a WebSocket if the client asks for an upgrade, otherwise Server-Sent Events.
pub async fn stream(access: TokenAccess, call: ApiRequest) -> Result<Response, ApiError> {
    if auth::asks_for_websocket(&call.headers) {
        return web_socket(access, call).await;
    }
    let (opened, selection) = select(&access, &call).await?;
    let session = open(&access, &opened, selection).await?;
    Ok(sessions::event_stream(&opened.database, &call, session))
}

async fn web_socket(access: TokenAccess, call: ApiRequest) -> Result<Response, ApiError> {
    let accept = auth::websocket_accept(&call.headers)?;
    let (opened, selection) = select(&access, &call).await?;
    let session = open(&access, &opened, selection).await;
    sessions::upgrade(&opened.database, call, &accept, session)
}

async fn open(access: &TokenAccess, opened: &Opened, selection: ManyStores) -> Result<Box<Session>, ApiError> {
    let Opened { database, grant, .. } = opened;
    sessions::admit(database).await?;
    let session = Session::open_many(&database.hub, selection, Arc::clone(grant));
    let session = session.map_err(|why| sessions::refused(why, None, grant.id))?;
    // From here on, a revocation of the token ends this session. This check finds an earlier revocation.
    access.confirm(opened).await?;
    Ok(session)
}

/// Parses the client's selection for its stream: the database, the stores, and the types of events.
async fn select(access: &TokenAccess, call: &ApiRequest) -> Result<(Opened, ManyStores), ApiError> {
    let types = match call.query.get("types") {
        None => None,
        Some(names) => {
            let types: Option<Vec<EventType>> = names.split(',').map(EventType::from_name).collect();
            Some(types.ok_or(ApiError::BadParameter("types", TYPES))?)
        }
    };
    let listed = listed(call)?;
    let opened = match (call.query.get("database"), &listed) {
        (Some(name), _) => {
            let named = |opened: &&Opened| opened.database.name.as_deref() == Some(name);
            let found = access.opened.iter().find(named);
            found.ok_or(ApiError::BadParameter("database", A_DATABASE))?
        }
        (None, Some(stores)) if access.opened.len() > 1 => database_of(access, stores).await?,
        (None, _) => match access.opened.as_slice() {
            [opened] => opened,
            _ => return Err(ApiError::BadParameter("database", A_DATABASE)),
        },
    };
    let of_site = access.databases.stores_of(&opened.database, &opened.grant.stores);
    let selection = match listed {
        None => ManyStores {
            stores: of_site,
            types,
            granted: Some(opened.grant.stores.clone()),
        },
        Some(stores) => {
            if !stores.iter().all(|store| of_site.has(store)) {
                return Err(ApiError::OtherStore);
            }
            ManyStores {
                stores: StoreSet::These(stores),
                types,
                granted: None,
            }
        }
    };
    Ok((opened.clone(), selection))
}

/// Finds the database that has all of these stores. Fails if they are in several databases, or if the token gives no
/// access to their database.
async fn database_of<'a>(access: &'a TokenAccess, stores: &HashSet<StoreId>) -> Result<&'a Opened, ApiError> {
    let mut of = None;
    for store in stores {
        let number = access.databases.of(store).await?.number;
        if *of.get_or_insert(number) != number {
            return Err(ApiError::BadParameter("stores", ONE_DATABASE));
        }
    }
    let found = access.opened.iter().find(|opened| Some(opened.database.number) == of);
    found.ok_or(ApiError::OtherStore)
}

/// Parses the ids of the stores that the request names. `None`: the client wants all stores to which its token gives
/// access.
fn listed(call: &ApiRequest) -> Result<Option<HashSet<StoreId>>, ApiError> {
    let Some(text) = call.query.get("stores").filter(|text| *text != "*") else {
        return Ok(None);
    };
    let stores: HashSet<StoreId> = text.split(',').map(auth::checked_store).collect::<Result<_, _>>()?;
    match stores.len() <= MAX_LISTED {
        true => Ok(Some(stores)),
        false => Err(ApiError::BadParameter("stores", "5000 ids of stores at most, or *")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_behind_any_store_of_any_database() {
        for (database, store) in [(0, "7"), (3, "a/b"), (1, ""), (2, "кафе")] {
            let from = Start {
                database,
                store: store.into(),
            };
            assert_eq!(Start::parse(&from.to_text()), Some(from));
        }
        for wrong in ["", "7", "!", "eA", "LzcA"] {
            assert_eq!(Start::parse(wrong), None, "{wrong}");
        }
    }
}
