//! Vestnik: an event engine on Postgres. The modules, in the order in which an event passes them.

pub mod config;
pub mod db;
pub mod migrate;
