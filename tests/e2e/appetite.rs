//! Jobs that use up disk, descriptors and kernel objects: each reaches its own limit, the next job has as much as before, and
//! nothing is left when the node ends.

use crate::helper::TestDaemon;
use crate::helper::programs::job;
use serde_json::Value;

const QUOTA_MIB: u64 = 16;

/// The number of successful attempts, and the errno of the first failed one.
fn end<'a>(found: &'a Value, what: &str) -> (u64, &'a str) {
    let [count, errno] = found[what].as_array().unwrap_or_else(|| panic!("{what}: {found:#}")).as_slice()
    else {
        panic!("{what}: {found:#}")
    };
    (count.as_u64().unwrap(), errno.as_str().unwrap())
}

fn use_up_everything(d: &TestDaemon) -> Value {
    let script = job("fill.py").display().to_string();
    let out = d.run(["--upload", &script, "python3", "fill.py"]);
    out.ok();
    out.json()
}

#[test]
pub(super) fn resources_that_a_job_uses_up_are_its_own() {
    let d = TestDaemon::with([("filesystem.workQuota", format!("{QUOTA_MIB}MB"))]);
    let found = use_up_everything(&d);
    println!("{found}");
    for place in ["/work", "/tmp", "/dev/shm"] {
        let (mebibytes, errno) = end(&found, &format!("bytes {place}"));
        assert_eq!(errno, "ENOSPC", "{place}");
        assert!((1..=QUOTA_MIB + 1).contains(&mebibytes), "{place} took {mebibytes} MiB");
        let (inodes, errno) = end(&found, &format!("inodes {place}"));
        assert!(errno == "ENOSPC" && inodes < 100_000, "{place} took {inodes} files: {errno}");
    }
    assert_eq!(end(&found, "fallocate").0, 0);
    let (depth, errno) = end(&found, "depth");
    assert!(depth > 100 && matches!(errno, "ENOSPC" | ""), "{depth} {errno}");
    let few = |what: &str, most: u64| {
        let (count, errno) = end(&found, what);
        assert!(count <= most && !errno.is_empty(), "{what}: {count} {errno}");
    };
    for what in ["descriptors", "eventfd", "epoll", "timerfd", "inotify", "pipe", "memfd"] {
        few(what, 1 << 20);
    }
    few("in flight", 10_000);
    few("timer", 4096);
    for what in ["semget", "msgget", "shmget"] {
        few(what, 100_000);
    }
    // The next job has all of it again.
    let again = use_up_everything(&d);
    for what in ["bytes /work", "inodes /work", "descriptors", "timer", "shmget", "semget", "msgget"] {
        assert_eq!(found[what], again[what], "{what}");
    }
}

#[test]
fn failed_job_says_which_of_its_file_systems_was_full() {
    let d = TestDaemon::with([("filesystem.workQuota", format!("{QUOTA_MIB}MiB"))]);
    let ended = |args: &[&str]| {
        let id = d.submit(args);
        let code = d.rnx(["job", "wait", &id]).code;
        (code, d.status(&id)["message"].as_str().unwrap().to_owned())
    };
    let shell = |script: &str| ended(&["sh", "-c", script]);
    for place in ["/work", "/tmp", "/run", "/dev/shm"] {
        let (code, message) = shell(&format!("head -c 40M /dev/zero >{place}/f"));
        let bound = "filesystem.workQuota of the node bounds it";
        assert_eq!((code, message), (1, format!("its {place} was full ({QUOTA_MIB} MiB); {bound}")));
    }
    // Here half of the memory limit is less than the quota.
    let script = "i=0; while : >/tmp/$i; do i=$((i+1)); done";
    let (code, message) = ended(&["--max-memory", "24", "sh", "-c", script]);
    let sentence =
        "its /tmp had no inode left for another file; ask for more memory: it may take half of that";
    assert!(code > 0 && message == sentence, "{code}: {message}");
    let said = d.rnx(["job", "run", "--follow", "sh", "-c", "head -c 40M /dev/zero >/tmp/f; kill -9 $$"]);
    assert!(said.stderr.contains("killed by signal 9 (SIGKILL); its /tmp was full"), "{}", said.stderr);
    let gone = shell("head -c 40M /dev/zero >/tmp/f; rm /tmp/f; exit 3");
    assert_eq!(gone, (3, String::new()), "nothing is full any more");
    assert_eq!(shell("head -c 40M /dev/zero >/tmp/f; exit 0"), (0, String::new()), "it succeeded");
}
