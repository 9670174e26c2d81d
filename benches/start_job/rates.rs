//! Jobs a second, by a number of threads that each start a job when their last one has ended.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::figures::Sample;

/// The numbers of jobs in progress at a time.
pub const CONCURRENCY: [usize; 4] = [1, 2, 8, 32];

/// Rates of one way at one concurrency, in the order in which they were taken.
#[derive(Debug)]
pub struct Rate {
    pub way: &'static str,
    pub concurrency: usize,
    pub jobs_a_second: Vec<f64>,
}

impl Rate {
    pub fn median(&self) -> f64 {
        crate::figures::quantile(&self.jobs_a_second, 0.5)
    }
}

/// Jobs a second: `worker` makes each thread's own starter, before the clock runs. A job that began within `time`
/// counts with the time until its end. Failed jobs do not count.
pub fn count<F: FnMut() -> Sample>(
    threads: usize,
    time: Duration,
    worker: impl Fn(usize) -> F + Sync,
) -> f64 {
    let (jobs, barrier) = (AtomicUsize::new(0), Barrier::new(threads + 1));
    let taken = std::thread::scope(|scope| {
        for thread in 0..threads {
            let (jobs, barrier, worker) = (&jobs, &barrier, &worker);
            scope.spawn(move || {
                let mut start = worker(thread);
                barrier.wait();
                let begin = Instant::now();
                while begin.elapsed() < time {
                    if start().ended != 0 {
                        jobs.fetch_add(1, Ordering::Relaxed);
                    }
                }
                barrier.wait();
            });
        }
        barrier.wait();
        let begin = Instant::now();
        barrier.wait();
        begin.elapsed()
    });
    jobs.load(Ordering::Relaxed) as f64 / taken.as_secs_f64()
}
