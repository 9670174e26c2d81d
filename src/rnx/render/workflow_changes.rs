//! The changes between two answers about one workflow, as lines for pipes and logs.

use super::super::terminal::one_line;
use super::workflow::exit_code;
use super::workflow_tree::elements;
use crate::pb::joblet::WorkflowJob;

/// The jobs that changed from `before` to `now`, in the order of the file. Before the first answer every job was PENDING.
pub(crate) fn changed<'a>(before: &[WorkflowJob], now: &'a [WorkflowJob]) -> Vec<&'a WorkflowJob> {
    let is_new = |at: usize, job: &WorkflowJob| match before.get(at) {
        // The order is that of the file; a server that changes it has every job named again.
        Some(old) => old.jobName != job.jobName || key(old) != key(job),
        None => job.status != "PENDING",
    };
    now.iter().enumerate().filter(|(at, job)| is_new(*at, job)).map(|(_, job)| job).collect()
}

/// The values whose change is worth a line.
fn key(job: &WorkflowJob) -> (&str, i32, Option<(i32, i32, i32)>) {
    let ended = job.array.as_ref().map(|array| (array.completed, array.failed, array.canceled));
    (&job.status, job.attempts, ended)
}

/// `shards RUNNING [##------] 312/1000 failed 2`, `join FAILED exit 3: no such file`.
pub(crate) fn line(job: &WorkflowJob) -> String {
    let parts = [
        Some(one_line(&job.jobName)),
        Some(one_line(&job.status)),
        job.array.as_ref().map(elements),
        exit_code(job)
            .filter(|code| job.exit_reason == "exited" && code != "0")
            .map(|code| format!("exit {code}")),
        (job.attempts > 1 && job.array.is_none()).then(|| format!("attempt {}", job.attempts)),
    ];
    let message =
        if job.message.is_empty() { String::new() } else { format!(": {}", one_line(&job.message)) };
    format!("{}{message}\n", parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::ArrayProgress;

    fn job(name: &str, status: &str) -> WorkflowJob {
        WorkflowJob { jobName: name.into(), status: status.into(), ..Default::default() }
    }

    fn names(before: &[WorkflowJob], now: &[WorkflowJob]) -> Vec<String> {
        changed(before, now).iter().map(|job| job.jobName.clone()).collect()
    }

    #[test]
    fn job_is_named_once_for_each_change_that_matters() {
        let first = [job("a", "RUNNING"), job("b", "PENDING")];
        assert_eq!(names(&[], &first), ["a"]);
        assert_eq!(names(&first, &first), [""; 0]);
        let mut second = first.clone();
        second[0].attempts = 2;
        assert_eq!(names(&first, &second), ["a"]);
        let mut third = first.clone();
        third[1].array = Some(ArrayProgress { total: 9, completed: 1, ..Default::default() }).into();
        assert_eq!(names(&first, &third), ["b"]);
        let mut fourth = third.clone();
        fourth[1].array.mut_or_insert_default().running = 3;
        assert_eq!(names(&third, &fourth), [""; 0], "what runs changes with every end");
        assert_eq!(names(&[job("z", "PENDING")], &first), ["a"]);
    }

    #[test]
    fn line_says_how_a_job_ended() {
        let mut ended = job("join\n", "FAILED");
        (ended.exit_reason, ended.exitCode, ended.attempts) = ("exited".into(), 3, 2);
        assert_eq!(line(&ended), "join\\n FAILED exit 3 attempt 2\n");
        (ended.exit_reason, ended.message) = ("oom".into(), "killed\u{1b}: out of memory".into());
        assert_eq!(line(&ended), "join\\n FAILED attempt 2: killed^[: out of memory\n");
        let mut array = job("shards", "RUNNING");
        array.array = Some(ArrayProgress { total: 8, completed: 3, failed: 1, ..Default::default() }).into();
        assert_eq!(line(&array), "shards RUNNING [####----] 4/8 failed 1\n");
    }
}
