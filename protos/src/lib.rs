//! Generated messages and stubs; nothing else. A crate of its own, so that an edit of joblet does not compile its
//! 24 000 lines again.
//!
//! `build/` makes one module of messages for each .proto file, and one `_grpc` module for each file with services, in
//! which a service `X` has `METHOD_X_*` constants, a client, a trait whose methods answer UNIMPLEMENTED until they are
//! written, `create_x` to serve it, and `ALL_METHODS`, the list that the table of roles is checked against. proto3
//! cannot tell "absent" from "zero" except in fields marked `optional`; these are `Option` here. Unknown fields survive
//! a decode and encode.

#[allow(unreachable_pub, rust_2018_idioms, clippy::all, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/pb/mod.rs"));
    include!(concat!(env!("OUT_DIR"), "/pb/grpc.rs"));
}

pub use generated::*;
