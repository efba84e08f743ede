//! Webhooks for any event: posts the events of chosen stores and types to an operator's addresses (endpoints), with or
//! without a bot. `table` has the commands' changes, `lease` decides which node posts, `post` sends one message, `run`
//! reads the journal and posts in order, `figures` has the metrics and what `vestnik doctor` reports.

pub mod figures;
mod lease;
mod post;
pub mod run;
pub mod table;
