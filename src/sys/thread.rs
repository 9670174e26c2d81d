//! Changes to one thread alone: its namespaces, and the scheduling of it or of a child. And what a thread does.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, capabilities, move_into_link_name_space, set_capabilities,
};

/// The niceness of threads that let jobs come first.
const NICE: i32 = 10;

/// Gives the calling thread an own root, working directory and umask (`CLONE_FS`), which setns(2) into a
/// mount namespace demands.
pub fn unshare_fs() -> io::Result<()> {
    // SAFETY: CLONE_FS changes the calling thread's fs_struct only; no Rust object refers to it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Holds the calling thread to disk quotas from now on, by giving up CAP_SYS_RESOURCE, whose holders they do not hold (quotactl(2)).
pub fn keep_quotas() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::SYS_RESOURCE);
    sets.permitted.remove(CapabilitySet::SYS_RESOURCE);
    Ok(set_capabilities(None, sets)?)
}

/// Moves the calling thread into a fresh copy of its mount namespace (and an own fs_struct).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the flags touch the calling thread's namespaces and fs_struct only, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Joins a mount namespace; the thread must have its own fs_struct ([`unshare_fs`]).
pub fn join_mounts(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).map_err(io::Error::from)
}

/// Moves the calling thread into a new network namespace.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes the calling thread's network namespace only, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Joins a network namespace.
pub fn join_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

/// Puts the calling thread under SCHED_RR at the lowest priority: it runs before every thread that is scheduled
/// ordinarily (sched(7)). Its children are scheduled ordinarily again. Such a thread must not spin for others, see
/// [`super::mailbox`].
///
/// # Errors
/// No CAP_SYS_NICE, or a kernel that has given the thread's group no real-time share (CONFIG_RT_GROUP_SCHED).
pub fn schedule_first() -> io::Result<()> {
    set_policy(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

/// Like [`schedule_first`] for another thread of this process, until that calls [`schedule_ordinarily`]: for a while it
/// works for a thread that waits.
///
/// # Errors
/// As [`schedule_first`]; or the thread is gone.
pub fn schedule_first_also(thread: i32) -> io::Result<()> {
    set_policy(thread, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

/// Undoes [`schedule_first`].
///
/// # Errors
/// None that sched(7) knows for a thread's own way back.
pub fn schedule_ordinarily() -> io::Result<()> {
    set_policy(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

/// Lets jobs come before the calling thread. A tuning: what is refused changes nothing.
pub fn be_nice() {
    if let Err(why) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("nice: {why}");
    }
}

/// Puts a process under SCHED_RR, a step above [`schedule_first`]; its children too.
///
/// # Errors
/// As [`schedule_first`].
pub fn schedule_above(pid: i32) -> io::Result<()> {
    set_policy(pid, libc::SCHED_RR, 2)
}

/// The state of a thread, as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// It runs, or waits for a processor.
    Runs,
    /// It sleeps in this function of the kernel, scheduling itself left out.
    SleepsIn(String),
    /// It sleeps, and the kernel was built without the names of its functions, or it fell asleep just now.
    Sleeps,
}

/// The state of a thread of this process, from `wchan` and `stat` (proc(5)).
///
/// # Errors
/// The thread is gone, or /proc cannot be read.
pub fn activity(thread: i32) -> io::Result<Activity> {
    let file = |name| std::fs::read_to_string(format!("/proc/self/task/{thread}/{name}"));
    let name = file("wchan")?;
    if !matches!(name.as_str(), "" | "0") {
        return Ok(Activity::SleepsIn(name));
    }
    // The name of the program comes before, in parentheses.
    let stat = file("stat")?;
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    Ok(if state == Some('R') { Activity::Runs } else { Activity::Sleeps })
}

fn set_policy(pid: i32, policy: i32, priority: i32) -> io::Result<()> {
    // `priority` is the whole of struct sched_param.
    let args = [pid as usize, policy as usize, &raw const priority as usize, 0, 0, 0];
    // SAFETY: `priority` lives until the call returns.
    let result = unsafe { super::raw::syscall(libc::SYS_sched_setscheduler, args) };
    super::raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// Starts a thread, and returns its id.
    fn thread(work: impl FnOnce() + Send + 'static) -> (i32, std::thread::JoinHandle<()>) {
        let (send, id) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            send.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            work();
        });
        (id.recv().unwrap(), thread)
    }

    #[test]
    fn sleeping_thread_is_told_from_one_that_runs_or_is_starved() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (sleeper, sleeps) = thread(move || drop(reader.read(&mut [0])));
        let seen = std::iter::repeat_with(|| activity(sleeper).unwrap());
        // It may fall asleep between two questions to the kernel, and sleeps elsewhere before it reads.
        let in_pipe = |seen: &Activity| matches!(seen, Activity::SleepsIn(name) if name.contains("pipe"));
        assert!(seen.take(1 << 20).any(|seen| in_pipe(&seen)), "{:?}", activity(sleeper));
        drop(writer);
        sleeps.join().unwrap();
        // More threads than processors: at any time some of them have none.
        let end = Arc::new(AtomicBool::new(false));
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        let begun = Arc::new(AtomicUsize::new(0));
        let busy: Vec<_> = std::iter::repeat_with(|| {
            let (begun, end) = (begun.clone(), end.clone());
            thread(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                while !end.load(Ordering::Relaxed) {}
            })
        })
        .take(count)
        .collect();
        while begun.load(Ordering::SeqCst) < count {
            std::thread::yield_now();
        }
        let seen: Vec<Activity> =
            (0..1000).flat_map(|_| busy.iter().map(|(id, _)| activity(*id).unwrap())).collect();
        end.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|(_, thread)| thread.join().unwrap());
        let asleep: Vec<&Activity> = seen.iter().filter(|seen| **seen != Activity::Runs).collect();
        assert!(
            asleep.is_empty(),
            "{} of {}: {:?}",
            asleep.len(),
            seen.len(),
            &asleep[..asleep.len().min(8)]
        );
        assert!(activity(sleeper).is_err(), "it is gone");
    }
}
