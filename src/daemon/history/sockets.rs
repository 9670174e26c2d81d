//! The two sockets of the history process. The daemon makes them once and hands them to each process that it starts, so
//! there is no moment at which they are missing, and the process needs no right to their directory.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use log::Level;
use nix::unistd::Group;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::config::daemon::DaemonConfig;
use crate::daemon::DaemonError;
use crate::daemon::cleanup::log_refusal;
use crate::diag;

/// Connections that may wait until somebody accepts them.
const BACKLOG: i32 = 128;

/// Both sockets. Dropped, their names go.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The socket for output.
    pub(super) output: OwnedFd,
    /// The socket for queries.
    pub(super) queries: OwnedFd,
    paths: [PathBuf; 2],
}

impl Sockets {
    /// Makes both. Names that an earlier daemon has left are taken over: we hold the lock of the run directory.
    ///
    /// # Errors
    /// The path that could not be bound.
    pub(super) fn bind(config: &DaemonConfig) -> Result<Sockets, DaemonError> {
        let server = &config.persist.server;
        let paths = [config.ipc.socket.clone(), server.grpc_socket.clone()];
        let output = bound(&paths[0])?;
        let queries = bound(&paths[1])?;
        if !server.group.is_empty() {
            admit(&paths[1], &server.group, &config.data_dir.join("run"))?;
        }
        Ok(Sockets { output, queries, paths })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.paths {
            log_refusal(fs::remove_file(path), path);
        }
    }
}

fn bound(path: &Path) -> Result<OwnedFd, DaemonError> {
    let failed = |source| DaemonError::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
        Err(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(|why| failed(why.into()))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|why| failed(why.into()))?;
    // The mode of the name is that of the socket's own inode, less the mask (unix(7)), which is the process's: other
    // threads make files too. Nobody can connect before listen(2).
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600)).map_err(|why| failed(why.into()))?;
    bind(&socket, &address).map_err(|why| failed(why.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listen(&socket, BACKLOG).map_err(|why| failed(why.into()))?;
    Ok(socket)
}

/// Lets the members of a group query: they may use the socket, and pass the directory that it is in, if that is ours.
fn admit(path: &Path, group: &str, run_dir: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Bind { path: path.to_owned(), source };
    let found = Group::from_name(group).map_err(|why| failed(why.into()))?;
    let unknown = || failed(io::Error::other(format!("persist.server.group: there is no group {group}")));
    let gid = found.ok_or_else(unknown)?.gid.as_raw();
    chown(path, None, Some(gid)).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    if path.parent() == Some(run_dir) {
        chown(run_dir, None, Some(gid)).map_err(failed)?;
        fs::set_permissions(run_dir, fs::Permissions::from_mode(0o710)).map_err(failed)?;
    }
    let open = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    if let Some(closed) = run_dir.ancestors().skip(1).find(|dir| !open(dir)) {
        diag::event!(
            Level::Warn,
            "the group of persist.server.group cannot reach the query socket",
            directory = closed.display(),
            remedy = format!("chmod o+x {}", closed.display())
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_is_ours_alone_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = bound(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        drop(first);
        assert!(UnixStream::connect(&path).is_err());
        let _second = bound(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "mine").unwrap();
        assert!(bound(&file).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }
}
