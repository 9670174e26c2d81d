//! Standard inputs of payloads and commands, between joblet-init and the thread that moves them ([`crate::input`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::input::{Inputs, Store};
use crate::job::exec::ExecId;
use crate::sandbox::session::{Receiver, input_of};

/// Where joblet-init has its copies of an input.
#[derive(Debug)]
pub(super) struct Keeper {
    /// A pidfd of the job's PID 1.
    pub(super) pidfd: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
    /// The place of the program.
    pub(super) place: u32,
    /// Tells the input from that of another program in the same place.
    pub(super) tag: u32,
}

/// Has the input of a program moved from now on that has been started.
pub(super) fn open(inputs: &Inputs, id: ExecId, store: Store, keeper: Keeper) {
    let Keeper { pidfd, pid, place, tag } = keeper;
    let finish = move || {
        let receiver = Receiver { pidfd: pidfd.as_fd(), pid };
        receiver.close_input(place, tag).map_err(io::Error::other)
    };
    inputs.open(id, store, Box::new(finish));
}

/// Takes the input of a program over from an earlier daemon, where it has one that is open.
pub(super) fn take_over(inputs: &Inputs, id: ExecId, keeper: Keeper) {
    let Ok((file, pipe)) = input_of(keeper.pidfd.as_fd(), keeper.place) else { return };
    match Store::of(file, pipe) {
        Ok(store) => open(inputs, id, store, keeper),
        Err(why) => {
            crate::diag::event!(
                log::Level::Warn,
                "cannot take over the input of a program",
                id = id,
                error = why
            );
        }
    }
}
