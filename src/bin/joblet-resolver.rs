//! The name service of jobs; see [`joblet::resolver`].
//!
//! It is compiled from the sources of its rooms, and links nothing else of joblet: a program that reads what jobs send has
//! no gRPC and no database in its memory.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a program is the root of its own crate and uses a part"
)]

#[path = "../job"]
mod job {
    #[path = "egress/mod.rs"]
    pub mod egress;
    #[path = "invalid_field.rs"]
    mod invalid_field;
    #[path = "profile.rs"]
    mod profile;
    #[path = "user.rs"]
    mod user;

    pub use invalid_field::InvalidField;
    pub use profile::Profile;
    pub use user::User;
}

#[path = "../network"]
mod network {
    #[path = "error.rs"]
    mod error;
    #[path = "ipv6.rs"]
    pub mod ipv6;
    #[path = "lease.rs"]
    pub mod lease;
    #[path = "rules.rs"]
    pub mod rules;
    #[path = "runs.rs"]
    mod runs;

    pub use error::NetworkError;
}

#[path = "../sandbox"]
mod sandbox {
    #[path = "filter/mod.rs"]
    pub mod filter;
}

#[allow(unsafe_code, reason = "the room that makes the kernel safe")]
#[path = "../sys"]
mod sys {
    #[path = "exit.rs"]
    mod exit;
    #[path = "inherited.rs"]
    pub mod inherited;
    #[path = "netlink/mod.rs"]
    pub mod netlink;
    #[path = "nftables/mod.rs"]
    pub mod nftables;
    #[path = "raw.rs"]
    pub mod raw;
    #[path = "seccomp.rs"]
    pub mod seccomp;

    pub use exit::exit_now;
}

#[path = "../resolver/mod.rs"]
mod resolver;

fn main() {
    resolver::main()
}
