//! Work that is not the hot path. It talks to shards through the mesh alone; if it is slow or dead,
//! traffic does not notice.

pub mod watchdog;
