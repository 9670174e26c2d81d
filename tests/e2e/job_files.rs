//! Files that are copied into running jobs and out of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::helper::daemon::TestDaemon;
use crate::helper::gate;
use crate::helper::rnx::Output;
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{eventually, holds};

fn cp(d: &TestDaemon, args: &[&str]) -> Output {
    d.rnx(["job", "cp"].iter().chain(args))
}

#[test]
fn files_come_into_a_running_job_and_out_of_it() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name).display().to_string();
    fs::create_dir_all(here.path().join("tree/empty")).unwrap();
    fs::write(here.path().join("tree/run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(here.path().join("tree/run"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("/etc/passwd", here.path().join("tree/out")).unwrap();
    let large: Vec<u8> = (0..5_000_003u32).map(|at| (at ^ at >> 9) as u8).collect();
    fs::write(here.path().join("large"), &large).unwrap();
    let id = d.submit(["--user", "job", "sleep", "1000"]);
    cp(&d, &[&at("tree"), &at("large"), &format!("{id}:")]).ok();
    let script = "tree/run && cat large | wc -c && echo new >> tree/run && stat -c %a tree/run && readlink tree/out && \
                  find . -not -user $(id -u) | wc -l";
    let seen = d.rnx(["job", "exec", &id, "sh", "-c", script]).ok();
    assert_eq!(seen, "ran\n5000003\n750\n/etc/passwd\n0\n");
    let back = here.path().join("back");
    fs::create_dir(&back).unwrap();
    let to = back.display().to_string();
    cp(&d, &[&format!("{id}:tree"), &format!("{id}:/work/large"), &to]).ok();
    assert!(fs::read(back.join("large")).unwrap() == large);
    assert_eq!(fs::read_to_string(back.join("tree/run")).unwrap(), "#!/bin/sh\necho ran\nnew\n");
    assert_eq!(fs::read_link(back.join("tree/out")).unwrap().to_str().unwrap(), "/etc/passwd");
    assert_eq!(back.join("tree/empty").metadata().unwrap().mode() & 0o777, 0o755);
    for (args, part) in [
        ([format!("{id}:gone"), to.clone()], "cannot open \"gone\""),
        ([format!("{id}:tree/out/x"), to.clone()], "never followed"),
        ([format!("{id}:/etc/passwd"), to.clone()], "only files in /work"),
        ([at("large"), "0123:".to_owned()], "not found"),
        ([at("large"), to.clone()], "one side must be a job"),
    ] {
        let refused = cp(&d, &[&args[0], &args[1]]);
        assert!(refused.code != 0 && refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let viewer = d.rnx(["--node", "viewer", "job", "cp", &format!("{id}:large"), &to]);
    assert!(viewer.code != 0 && viewer.stderr.contains("not allowed"), "{viewer:?}");
    d.rnx(["job", "stop", &id]).ok();
    let late = cp(&d, &[&format!("{id}:large"), &to]);
    assert!(late.code != 0 && late.stderr.contains("job is not running"), "{late:?}");
    d.stop();
}

#[test]
fn files_of_paused_jobs_and_after_a_restart_are_copied() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("some").display().to_string();
    fs::write(&file, vec![5; 3_000_000]).unwrap();
    let id = d.submit(["sleep", "1000"]);
    let d = d.crash().start();
    cp(&d, &[&file, &format!("{id}:")]).ok();
    assert_eq!(d.rnx(["job", "exec", &id, "stat", "-c", "%s %u", "some"]).ok(), "3000000 0\n");
    // Paused: its files are there all the same.
    d.rnx(["job", "pause", &id]).ok();
    let back = here.path().join("back").display().to_string();
    cp(&d, &[&format!("{id}:some"), &back]).ok();
    assert_eq!(fs::metadata(&back).unwrap().len(), 3_000_000);
    d.rnx(["job", "resume", &id]).ok();
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

/// The threads of the daemon that copy files.
fn copies(d: &TestDaemon) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().flatten();
    let name = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    threads.filter(|thread| name(&thread.path()).trim() == "files").count()
}

#[test]
fn copy_ends_with_its_job_though_its_client_takes_nothing() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "head -c 48M /dev/urandom >big; echo ready; sleep 1000"]);
    eventually("it has its file", || holds(d.rnx(["job", "log", "--no-follow", &id]).ok().contains("ready")));
    let here = tempfile::tempdir().unwrap();
    let call = d.rnx_spawn(["job", "cp", &format!("{id}:big"), &here.path().display().to_string()]);
    eventually("a part has come", || {
        let parts = fs::read_dir(here.path().join(".joblet-parts")).into_iter().flatten().flatten();
        holds(parts.filter_map(|part| part.metadata().ok()).any(|meta| meta.len() > 0))
    });
    kill(Pid::from_raw(call.pid()), Signal::SIGSTOP).unwrap();
    assert_eq!(copies(&d), 1);
    d.rnx(["job", "stop", &id]).ok();
    d.until_status(&id, "STOPPED");
    eventually("nothing of the job is held", || holds(copies(&d) == 0));
    kill(Pid::from_raw(call.pid()), Signal::SIGCONT).unwrap();
    let out = call.finish();
    assert!(out.code != 0 && out.stderr.contains("has ended"), "{out:?}");
    assert!(!here.path().join("big").exists(), "half a file has no name");
    d.stop();
}

#[test]
fn job_that_swaps_directories_for_links_shows_no_host_file() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let here = tempfile::tempdir().unwrap();
    // On the host and not in the job.
    let canary = here.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "of the host").unwrap();
    let villain = format!(
        "import os\n\
         os.mkdir('real'); open('real/file', 'w').write('of the job'); os.symlink('{}', 'link'); os.symlink('real', 'd')\n\
         open('ready', 'w').close()\n\
         os.unlink('d')\n\
         while not os.path.exists('stop'):\n\
         \x20   os.rename('real', 'd'); os.rename('d', 'real'); os.rename('link', 'd'); os.rename('d', 'link')\n",
        canary.display()
    );
    let id = d.submit(["python3", "-c", &villain]);
    eventually("it swaps", || holds(d.rnx(["job", "exec", &id, "ls", "/work/ready"]).code == 0));
    let fresh = here.path().join("fresh");
    fs::write(&fresh, "fresh").unwrap();
    for round in 0..soak::rounds(30, 2000) {
        let to = here.path().join(format!("out{round}"));
        let out = cp(&d, &[&format!("{id}:d/file"), &to.display().to_string()]);
        if out.code == 0 {
            assert_eq!(fs::read_to_string(&to).unwrap(), "of the job");
        }
        cp(&d, &[&fresh.display().to_string(), &format!("{id}:d/fresh")]);
    }
    let of_host: Vec<_> = fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(of_host, ["file"]);
    gate::open(&id, "stop");
    d.until_status(&id, "COMPLETED");
    d.stop();
}
