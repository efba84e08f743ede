//! The texts of messages to people: `catalog` has the words of each language, `html` builds text with markup of a
//! bounded length, `value` writes times, amounts and customers' words.

pub mod catalog;
pub mod html;
pub mod value;
