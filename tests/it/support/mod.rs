//! What the tests stand on.

pub mod app;
pub mod breakable;
pub mod db;
pub mod http;
pub mod proxy;
