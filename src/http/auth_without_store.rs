//! Authorizes requests that name no store: finds the rights of the token in each database of the node.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::join_all;

use super::auth::{self, TokenLocation};
use super::error::ApiError;
use super::request::ApiRequest;
use super::{DatabaseContext, Databases};
use crate::token::{Grant, Presented, Scope, TokenLookup};

/// The result of the authorization of a request that names no store.
pub struct TokenAccess {
    /// The databases of the node.
    pub databases: Arc<Databases>,
    /// The databases in which the token is valid and has the scope that the route needs, in the order of the settings.
    /// The list has at least one database.
    pub opened: Vec<Opened>,
    /// The names of the databases that did not respond.
    pub unavailable: Vec<String>,
    presented: Presented,
}

/// A database in which a token is valid.
#[derive(Clone)]
pub struct Opened {
    /// The database.
    pub database: Arc<DatabaseContext>,
    /// The rights of the token in this database.
    pub grant: Arc<Grant>,
    generation: u64,
}

impl TokenAccess {
    /// Whether the token may be valid in several databases: it is a JWT, and the node serves several databases. Any
    /// other token is stored in one database only.
    pub fn is_of_all(&self) -> bool {
        matches!(self.presented, Presented::Jwt(_)) && self.databases.are_several()
    }

    /// Checks the token again if any token in the database has changed since the first check. If the token's stores or
    /// scope have changed, the error asks the client to send the request again.
    pub async fn confirm(&self, opened: &Opened) -> Result<(), ApiError> {
        if opened.database.hub.tokens.generation() == opened.generation {
            return Ok(());
        }
        let looked = auth::look_up(&opened.database, &self.presented).await?;
        let grant = auth::judge_alone(looked.found)?;
        match grant.stores == opened.grant.stores && grant.scope == opened.grant.scope {
            true => Ok(()),
            false => Err(ApiError::NotReady),
        }
    }
}

/// Checks that the request's token is valid in at least one database, with a scope of at least `scope`.
pub async fn authorize(
    databases: &Arc<Databases>,
    call: &ApiRequest,
    scope: Scope,
    location: TokenLocation,
    client: IpAddr,
) -> Result<TokenAccess, ApiError> {
    let given = auth::offered(databases, call, location)?;
    let presented = auth::parse(given, client)?;
    let refused = |why: &'static str| auth::refused(given, why, client);
    if let (Presented::Jwt(jwt), true) = (&presented, databases.are_several()) {
        // The JWT is verified first, so that an invalid JWT causes no query in any database.
        auth::verify(databases, jwt, refused).await?;
    }
    let presented_there = &presented;
    let looking = databases
        .all()
        .map(|database| async move { (database, auth::look_up(database, presented_there).await) });
    let (mut opened, mut unavailable, mut problem) = (Vec::new(), Vec::new(), None);
    for (database, looked) in join_all(looking).await {
        match looked {
            Ok(looked) => match looked.found {
                TokenLookup::Valid(grant) => opened.push(Opened {
                    database: Arc::clone(database),
                    grant,
                    generation: looked.generation,
                }),
                TokenLookup::Unknown => {}
                found => {
                    found.why_not().map(refused);
                    problem = auth::judge_alone(found).err();
                }
            },
            Err(error) => {
                unavailable.extend(database.name.clone());
                problem = problem.or(Some(error));
            }
        }
    }
    let Some(first) = opened.first() else {
        return Err(problem.unwrap_or_else(|| {
            refused("unknown");
            ApiError::Unauthorized
        }));
    };
    auth::authenticate(call)?;
    databases.limits.count_token(first.database.number, first.grant.id)?;
    opened.retain(|opened| opened.grant.scope >= scope);
    if opened.is_empty() {
        return Err(ApiError::OtherScope(scope));
    }
    Ok(TokenAccess {
        databases: Arc::clone(databases),
        opened,
        unavailable,
        presented,
    })
}
