//! Builds the texts of messages to people. `catalog` has the texts of each language, `html` builds a message of limited
//! length with markup, `value` formats times, amounts and customers' texts.

pub mod catalog;
pub mod html;
pub mod value;
