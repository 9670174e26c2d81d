//! The permits for links: so many of a job, so many of the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LinkError;
use crate::job::JobId;

/// Most links of one job at one time.
pub const JOB_LINKS: usize = 64;
/// Most links of all jobs at one time.
pub const NODE_LINKS: usize = 1024;

/// The permits for all links.
#[derive(Debug, Clone, Default)]
pub(super) struct LinkPermits(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    node: usize,
    jobs: HashMap<JobId, usize>,
}

impl LinkPermits {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for a link of this job.
    ///
    /// # Errors
    /// All of the job's or of the node's are taken.
    pub(super) fn take(&self, job: JobId) -> Result<LinkPermit, LinkError> {
        let mut taken = self.lock();
        if taken.node >= NODE_LINKS {
            return Err(LinkError::NodeFull);
        }
        let of_job = taken.jobs.entry(job).or_default();
        if *of_job >= JOB_LINKS {
            return Err(LinkError::JobFull);
        }
        *of_job += 1;
        taken.node += 1;
        Ok(LinkPermit { all: self.clone(), job })
    }
}

/// A permit for one link, free again when it is dropped.
#[derive(Debug)]
pub(super) struct LinkPermit {
    all: LinkPermits,
    job: JobId,
}

impl Drop for LinkPermit {
    fn drop(&mut self) {
        let mut taken = self.all.lock();
        taken.node -= 1;
        if let Some(of_job) = taken.jobs.get_mut(&self.job) {
            *of_job -= 1;
            if *of_job == 0 {
                taken.jobs.remove(&self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_job_and_of_the_node_end_and_come_back() {
        let places = LinkPermits::default();
        let greedy = JobId::random();
        let mut held: Vec<LinkPermit> = (0..JOB_LINKS).map(|_| places.take(greedy).unwrap()).collect();
        assert_eq!(places.take(greedy).unwrap_err(), LinkError::JobFull);
        for _ in 1..NODE_LINKS / JOB_LINKS {
            let job = JobId::random();
            held.extend((0..JOB_LINKS).map(|_| places.take(job).unwrap()));
        }
        assert_eq!(places.take(JobId::random()).unwrap_err(), LinkError::NodeFull);
        held.pop();
        assert!(places.take(JobId::random()).is_ok());
        drop(held);
        let taken = places.lock();
        assert_eq!((taken.node, taken.jobs.len()), (0, 0), "a job without links is forgotten");
    }
}
