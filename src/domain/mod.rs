//! Types that all modules share, without input or output: events, cursors, and the canonical order and booking.

pub mod cursor;
pub mod event;
pub mod money;
pub mod shortened;
pub mod status;
pub mod store_set;
pub mod subject;
pub mod wire_time;

pub use subject::Subject;
