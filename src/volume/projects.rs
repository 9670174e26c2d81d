//! Numbers of projects for volumes: those that nothing else on the file system counts for.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use crate::job::volume::OWNER;
use crate::sys::quota;

/// The first number. Projects of jobs (/work) are host ids of jobs, and no job has an id from the owner of volumes on.
const FIRST: u32 = OWNER + 1;
/// So many, up to the end of the range of that owner.
const COUNT: u32 = 65_535;
/// Where an administrator names projects of the host (projects(5), projid(5)): `NUMBER:PATH` and `NAME:NUMBER`.
const NAMED: [(&str, usize); 2] = [("/etc/projects", 0), ("/etc/projid", 1)];

/// Whether a number may be that of a volume.
pub(super) fn is_of_volumes(project: u32) -> bool {
    (FIRST..FIRST + COUNT).contains(&project)
}

/// A number that has no files and no limits on the file system of `on`, and that no file of the host names.
///
/// # Errors
/// The file system has no project quotas, or all numbers are taken.
pub(super) fn free(on: BorrowedFd<'_>) -> io::Result<u32> {
    let named: Vec<u32> = NAMED
        .iter()
        .flat_map(|(path, field)| named(&fs::read_to_string(path).unwrap_or_default(), *field))
        .collect();
    for project in (FIRST..FIRST + COUNT).filter(|project| !named.contains(project)) {
        if quota::usage(on, project)? == quota::Usage::default() {
            return Ok(project);
        }
    }
    Err(io::Error::other(format!("all projects from {FIRST} to {} are in use", FIRST + COUNT - 1)))
}

/// The numbers in a field of each line.
fn named(text: &str, field: usize) -> Vec<u32> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(':').nth(field)?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_of_the_host_are_read_by_number() {
        assert_eq!(named("# 5:/x\n10:/srv/a:b\n 11 :/srv\nbad\n", 0), [10, 11]);
        assert_eq!(named("web:2147352577\nnone\nx:-1\n", 1), [FIRST]);
    }

    #[test]
    fn numbers_of_volumes_are_those_behind_their_owner() {
        assert!(!is_of_volumes(0) && !is_of_volumes(OWNER) && is_of_volumes(OWNER + 1));
        assert!(is_of_volumes(OWNER + COUNT) && !is_of_volumes(OWNER + COUNT + 1));
    }
}
