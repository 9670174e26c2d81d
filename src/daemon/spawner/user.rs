//! The user of a payload that its root knows: looked up in there, and owner of /work.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Uid, chownat};

use super::{Spawner, WarmSandbox};
use crate::job::{Found, JobSpec, RunAs};

impl Spawner {
    /// Looks up the user that the request or the image names, and gives it /work. `None`: it names none.
    pub(super) fn find_user(&self, sandbox: &WarmSandbox, spec: &JobSpec) -> Result<Option<Found>, String> {
        let RunAs::Known(name) = &spec.run_as else { return Ok(None) };
        let (Some(identity), Some(mounts)) = (&sandbox.held.identity, &sandbox.held.mounts) else {
            return Err("the sandbox has no identity or no mounts".to_owned());
        };
        let failed = |why: String| {
            format!("cannot run as \"{name}\": {why}; name a user of the runtime, or a number, with --user")
        };
        let users = self.node.sandbox.users(mounts.as_fd());
        let [passwd, group] = users.map_err(|why| failed(why.to_string()))?;
        let found = name.find(&passwd, &group).map_err(failed)?;
        let (uid, gid) = (identity.root() + found.uid, identity.root() + found.gid);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let given = chownat(&sandbox.work, "", uid, gid, AtFlags::EMPTY_PATH);
        given.map_err(|why| format!("cannot give /work to \"{name}\": {}", std::io::Error::from(why)))?;
        Ok(Some(found))
    }
}
