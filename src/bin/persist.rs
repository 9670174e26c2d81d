//! The history process; see [`joblet::persist`].

use joblet::persist::remote::OpenRemote;

// The paths `crate::…` of the store lead into the library.
#[cfg(feature = "cloudwatch")]
use joblet::{config, diag, job, output, persist};

#[cfg(feature = "cloudwatch")]
#[path = "../persist/store/cloudwatch/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a program is the root of its own crate and uses a part"
)]
mod cloudwatch;

fn main() {
    #[cfg(feature = "cloudwatch")]
    let open: Option<OpenRemote> = Some(cloudwatch::open_remote);
    #[cfg(not(feature = "cloudwatch"))]
    let open: Option<OpenRemote> = None;
    joblet::persist::main(open)
}
