//! Types that all modules share, without I/O: events, positions and cursors, the canonical order and booking, statuses
//! and money.

pub mod cursor;
pub mod event;
pub mod event_group;
pub mod money;
pub mod shortened;
pub mod status;
pub mod store_set;
pub mod subject;
pub mod wire_time;

pub use subject::Subject;
