//! The only module that names the runtime and the kernel; it decides when, never what. See lib.rs.
//!
//! | File | What it is |
//! |---|---|
//! | `serve` | the process: listeners, workers, signals, the barrier at the end |
//! | `worker` | a thread with its runtime, and what its tasks share |
//! | `listener`, `conn` | tasks that accept and that read |
//! | `input` | what connections have on hand; `requests`, `frames`, `ending`: what becomes of it |
//! | `turn`, `pace` | one turn: everything that is sent, is sent there; how much of it |
//! | `proxied`, `client`, `addresses` | who is at the other end, and how often it may connect |
//! | `mesh`, `status`, `ring`, `sys` | leaves: queues between workers, the side ring, system calls |

pub mod addresses;
pub mod client;
pub mod conn;
mod ending;
mod frames;
pub mod input;
pub mod listener;
pub mod mesh;
pub mod pace;
pub mod proxied;
pub mod random;
mod requests;
pub mod ring;
pub mod serve;
pub mod status;
pub mod sys;
pub mod turn;
pub mod worker;
