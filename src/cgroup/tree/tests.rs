//! Trees of plain directories: the kernel's files are put there beforehand where a test needs them.

use super::*;
use crate::job::limits::{CpuPercent, MemoryMib};

/// A pretended mount whose root has these controllers.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(controllers: &str) -> Host {
        let host = Host { dir: tempfile::tempdir().unwrap() };
        host.group("", controllers, "");
        host
    }

    fn path(&self, group: &str) -> PathBuf {
        self.dir.path().join(group)
    }

    /// Makes a group as the kernel would: `passed` is what its subtree_control says, and will go on saying.
    fn group(&self, name: &str, controllers: &str, passed: &str) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        fs::write(path.join("cgroup.subtree_control"), passed).unwrap();
        if !name.is_empty() {
            fs::write(path.join("cgroup.type"), "domain\n").unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn discover(&self, own: &str, base_dir: Option<&Path>) -> Result<CgroupTree, CgroupError> {
        CgroupTree::discover(&Placement {
            mountinfo: &format!("30 24 0:26 / {} rw - cgroup2 cgroup2 rw\n", self.dir.path().display()),
            self_cgroup: &format!("0::{own}\n"),
            base_dir,
            name: "joblet-1",
            wanted: ControllerSet::all(),
        })
    }
}

fn limits() -> Limits {
    Limits {
        cpu: Some(CpuPercent::new(50).unwrap()),
        memory: Some(MemoryMib::new(64, 1024).unwrap()),
        io: None,
        cores: None,
        pids: 10,
    }
}

#[test]
fn the_tree_is_made_below_our_own_group() {
    let host = Host::new("cpu memory pids");
    host.group("joblet.service", "cpu memory pids", "cpu memory pids");
    host.group("joblet.service/joblet-1", "cpu memory pids", "cpu memory pids");
    let tree = host.discover("/joblet.service", None).unwrap();
    assert_eq!(tree.path(), host.path("joblet.service/joblet-1"));
    assert_eq!(tree.controllers().to_string(), "cpu memory pids");
    assert!(!host.path("joblet.service/joblet-main").exists(), "nothing was left to enable");
    assert_eq!(host.read("cgroup.subtree_control"), "", "groups above ours are not ours");
}

#[test]
fn discovery_at_the_cgroup_root_moves_no_process() {
    let host = Host::new("cpu");
    let tree = host.discover("/", None).unwrap();
    assert_eq!(tree.path(), host.path("joblet-1"));
    assert_eq!(host.read("cgroup.subtree_control"), "+cpu");
    assert!(!host.path("joblet-main").exists());
}

#[test]
fn lone_daemon_moves_to_a_leaf_before_it_delegates_controllers() {
    let host = Host::new("cpu");
    host.group("s", "cpu", "");
    host.group("s/joblet-main", "cpu", "");
    let me = std::process::id().to_string();
    fs::write(host.path("s/cgroup.procs"), format!("{me}\n")).unwrap();
    host.discover("/s", None).unwrap();
    assert_eq!(host.read("s/joblet-main/cgroup.procs"), me);
    assert_eq!(host.read("s/cgroup.subtree_control"), "+cpu");
    // Started anew from inside the leaf, the tree is where it was.
    let again = host.discover("/s/joblet-main", None).unwrap();
    assert_eq!(again.path(), host.path("s/joblet-1"));
}

#[test]
fn a_group_shared_with_others_is_left_alone() {
    let host = Host::new("cpu");
    host.group("session", "cpu", "");
    let both = format!("{}\n1\n", std::process::id());
    fs::write(host.path("session/cgroup.procs"), &both).unwrap();
    let tree = host.discover("/session", None).unwrap();
    assert_eq!(host.read("session/cgroup.procs"), both);
    assert_eq!(host.read("session/cgroup.subtree_control"), "");
    let why = tree.missing().iter().find(|(of, _)| *of == Controller::Cpu).unwrap().1.clone();
    assert_eq!(why, Why::Inhabited { group: host.path("session") });
    assert!(why.remedy().contains("Delegate=yes"));
}

#[test]
fn unit_that_changed_its_slice_is_found() {
    let mount = tempfile::tempdir().unwrap();
    let at = |slice: &str, name: &str| mount.path().join(slice).join(name);
    let place = |base: &Path| inside(base, mount.path()).unwrap();
    let (old, new) = (at("system.slice", "joblet-jobs.service"), at("joblet.slice", "joblet-jobs.service"));
    assert_eq!(place(&old), old, "neither is there: as it is configured");
    std::fs::create_dir_all(&new).unwrap();
    assert_eq!((place(&old), place(&new)), (new.clone(), new.clone()));
    // The unit of before the upgrade runs on.
    std::fs::create_dir_all(&old).unwrap();
    assert_eq!((place(&old), place(&new)), (old, new.clone()));
    for other in [
        at("system.slice", "joblet"),
        at("user.slice", "joblet-jobs.service"),
        mount.path().join("x.service"),
    ] {
        assert_eq!(place(&other), other);
    }
}

#[test]
fn a_base_directory_is_made_and_must_lie_in_the_mount() {
    let host = Host::new("");
    let base = host.path("joblet.slice/joblet.service");
    let tree = host.discover("/", Some(&base)).unwrap();
    assert_eq!(tree.path(), base.join("joblet-1"));
    let outside = tempfile::tempdir().unwrap();
    let beside = PathBuf::from(format!("{}x/a", host.dir.path().display()));
    for bad in [outside.path(), &beside, &host.path("a/../../b")] {
        let error = host.discover("/", Some(bad)).unwrap_err().to_string();
        assert!(error.contains("security violation: cgroup path outside delegated subtree: "), "{error}");
        assert!(error.starts_with("cgroup setup failed: "), "{error}");
    }
    assert!(!beside.exists());
}

#[test]
fn levels_reach_from_our_group_or_the_nearest_that_exists() {
    let host = Host::new("");
    host.group("a/b", "", "");
    let at = |group: &str| host.path(group);
    assert_eq!(levels(&at("a"), &at("a/b/c")), [at("a"), at("a/b"), at("a/b/c")]);
    assert_eq!(levels(&at("x"), &at("a/b/c/d")), [at("a/b"), at("a/b/c"), at("a/b/c/d")]);
    assert_eq!(levels(&at("x"), &at("a/b")), [at("a/b")]);
    assert_eq!(levels(&at("a"), &at("a")), [at("a")]);
}

#[test]
fn strict_refuses_and_best_effort_reports_an_unenforced_limit() {
    let host = Host::new("hugetlb");
    let tree = host.discover("/", None).unwrap();
    let refused = tree.enforce(&limits(), Enforcement::Strict).unwrap_err().to_string();
    assert_eq!(
        refused,
        "cgroup setup failed: maxCPU 50 % is not enforced: no cpu controller, cgroup v2 does not have it on \
         this host; boot with systemd.unified_cgroup_hierarchy=1 and cgroup_no_v1=all, or set \
         cgroup.enforcement: best-effort to start jobs without it"
    );
    let told = tree.enforce(&limits(), Enforcement::BestEffort).unwrap();
    let told: Vec<_> = told.iter().map(|limit| limit.limit.as_str()).collect();
    assert_eq!(told, ["maxCPU 50 %", "maxMemory 64 MB", "the limit of 10 processes"]);
}

#[test]
fn a_controller_left_out_or_not_delegated_says_so() {
    let host = Host::new("cpu memory");
    host.group("s", "cpu", "cpu");
    host.group("s/joblet-1", "cpu", "cpu");
    let tree = host.discover("/s", None).unwrap();
    let why =
        |of| tree.missing().iter().find(|(controller, _)| *controller == of).map(|(_, why)| why.clone());
    assert_eq!(why(Controller::Memory), Some(Why::NotDelegated { group: host.path("s") }));
    assert_eq!(why(Controller::Cpu), None);
}

#[test]
fn a_jobs_group_is_made_found_again_and_removed() {
    let host = Host::new("");
    let tree = host.discover("/", None).unwrap();
    let id = JobId::random();
    let job = tree.create(id, &limits(), &[]).unwrap();
    assert_eq!(job.path(), host.path(&format!("joblet-1/job-{id}")));
    let twice = tree.create(id, &limits(), &[]).unwrap_err().to_string();
    assert!(twice.contains("cannot make the group") && twice.contains("File exists"), "{twice}");
    fs::create_dir(host.path("joblet-1/job-no-uuid")).unwrap();
    fs::create_dir(host.path("joblet-1/other")).unwrap();
    assert_eq!(tree.leftovers().unwrap(), [id]);
    let found = tree.reopen(id).unwrap().unwrap();
    assert_eq!(found.remove().unwrap(), Removal::Done);
    assert!(tree.reopen(id).unwrap().is_none());
    assert_eq!(tree.leftovers().unwrap(), []);
}

#[test]
fn a_group_whose_limits_fail_does_not_remain() {
    let host = Host::new("pids");
    host.group("joblet-1", "pids", "pids");
    let tree = host.discover("/", None).unwrap();
    let error = tree.create(JobId::random(), &limits(), &[]).unwrap_err().to_string();
    assert!(error.contains("pids.max"), "{error}");
    assert_eq!(tree.leftovers().unwrap(), []);
}

#[test]
fn cores_come_from_the_group_or_from_the_host() {
    let host = Host::new("");
    let tree = host.discover("/", None).unwrap();
    assert!(tree.cores().unwrap().contains(0), "every host has a core 0 online");
    fs::write(tree.path().join("cpuset.cpus.effective"), "2-3\n").unwrap();
    assert_eq!(tree.cores().unwrap().to_string(), "2-3");
}
