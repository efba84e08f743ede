//! What the tests stand on.

pub mod app;
pub mod breakable;
pub mod db;
pub mod hook;
pub mod http;
pub mod node;
pub mod proxy;
pub mod telegram;
