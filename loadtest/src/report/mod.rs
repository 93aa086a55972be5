//! What people read of a run: tables in a terminal, and a page with plots.

pub(crate) mod compare;
pub(crate) mod page;
pub(crate) mod pairs;
mod plot;
pub(crate) mod text;
