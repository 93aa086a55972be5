//! The only module that names the runtime and the kernel; it decides when, never what. See lib.rs.

pub mod mesh;
pub mod ring;
pub mod status;
pub mod sys;
