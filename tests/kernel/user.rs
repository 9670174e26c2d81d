//! A job that is an ordinary user inside: the walls are those of uid 0, and joblet-init stays out of reach.

use joblet::job::User;

use crate::helper::skip::is_root;
use crate::job::{Bench, Finished, Order};

fn as_user(bench: &Bench, user: User, argv: &[&str]) -> Finished {
    bench.run(&Order { user, ..Order::new(argv) })
}

/// A program that tells the chosen rows of its status, and what it can do to the first process.
const WALLS: &str = "import os, errno
for line in open('/proc/self/status'):
    if line.split(':')[0] in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Groups'):
        print(' '.join(line.split()))
def tried(what, doing):
    try:
        doing()
        print(what, 'done')
    except OSError as why:
        print(what, errno.errorcode[why.errno])
tried('read environ of init', lambda: open('/proc/1/environ').read())
tried('write oom_score of init', lambda: open('/proc/1/oom_score_adj', 'w').write('-1'))
tried('become the other', lambda: os.setuid(1000 if os.getuid() == 0 else 0))
tried('give away', lambda: os.chown('/work', 1000 if os.getuid() == 0 else 0, -1))
print('namespace', os.WEXITSTATUS(os.system('unshare --user true 2>/dev/null')) != 0)
print('mount', os.WEXITSTATUS(os.system('mount -t tmpfs x /tmp 2>/dev/null')) != 0)
tried('write below /usr', lambda: open('/usr/x', 'w'))
tried('write below /etc', lambda: open('/etc/passwd', 'a'))
";

#[test]
fn both_users_have_the_same_walls() {
    needs!(is_root(), "needs root");
    let [root, job] = User::ALL.map(|user| {
        let done = as_user(&Bench::new(), user, &["python3", "-c", WALLS]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        done.stdout
    });
    assert_eq!(root, job);
    for line in ["CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"] {
        assert!(job.lines().any(|told| told == line), "no {line} in\n{job}");
    }
    for refused in [
        "read environ of init EPERM",
        "write oom_score of init EPERM",
        "become the other EINVAL",
        "give away EPERM",
        "namespace True",
        "mount True",
        "write below /usr EROFS",
    ] {
        assert!(job.lines().any(|told| told == refused), "no {refused} in\n{job}");
    }
}

#[test]
fn ordinary_user_has_names_and_owns_what_it_makes() {
    needs!(is_root(), "needs root");
    let script = "id -u; id -g; id -un; id -gn; cd /work; touch a; stat -c '%u:%g %U' . a /tmp/b; \
                  cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
    let bench = Bench::new();
    let done = as_user(&bench, User::Job, &["sh", "-c", &format!("touch /tmp/b; {script}")]);
    let uid = bench.ground.uid;
    let map = format!(" 1000 {uid} 1\n");
    let owned = "1000:1000 job\n".repeat(3);
    // A reader in that namespace may see its own numbers.
    let inside = " 1000 1000 1\n".repeat(2);
    let told = done.stdout.replace(&map, " 1000 1000 1\n");
    assert_eq!(told, format!("1000\n1000\njob\njob\n{owned}{inside}"), "{done:?}");
}
