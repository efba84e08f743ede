//! The base layer: settings, connections to Postgres, metrics and logs. This layer does not depend on orders, stores or
//! the journal.

pub mod backoff;
pub mod config;
pub mod db;
pub mod metrics;
pub mod periodic;
pub mod postgres_binaries;
pub mod rate_limiter;
pub mod standard_webhook;
pub mod table_lock;
pub mod telemetry;
