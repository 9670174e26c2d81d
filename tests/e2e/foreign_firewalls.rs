//! The docker and the firewalld of Debian on the host of a node. Both run in the test's own namespaces, from packages that
//! are unpacked beside the system's files and never installed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::helper::daemon::{JOBLET, TestDaemon};
use crate::helper::network::{Namespace, has_program, host_and_outside, with_network};
use crate::helper::packages::unpacked;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// A shell with mounts and processes of its own, in which the packages are installed. No module of the host's kernel is
/// loaded for them. It carries out lines, and says `end N` after each.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/bin
mount -t overlay -o "lowerdir=$1/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$1/etc:/etc,upperdir=/mnt/upper,workdir=/mnt/work" overlay /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir /run/dbus
ln -s /usr/sbin/xtables-nft-multi /mnt/bin/iptables
ln -s /usr/sbin/xtables-nft-multi /mnt/bin/ip6tables
ln -s /bin/true /mnt/bin/modprobe
export PATH=/mnt/bin:$PATH
set +e
while read -r line; do eval "$line" 2>&1; echo "end $?"; done
"#;

/// A bus for firewalld that starts no service and trusts everybody who reaches it.
const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"#;

/// The shell of the host where the packages are installed.
struct Installed {
    shell: Child,
    lines: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Installed {
    fn on(host: &Namespace, tree: &Path) -> Installed {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            ENTER,
            "bash",
        ]);
        command.arg(tree).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = host.run(|| command.spawn().unwrap());
        let said = BufReader::new(shell.stdout.take().unwrap());
        Installed { lines: shell.stdin.take(), shell, said }
    }

    /// Carries out a line: whether it succeeded, and what it said.
    fn tries(&mut self, line: &str) -> (bool, String) {
        writeln!(self.lines.as_mut().unwrap(), "{line}").unwrap();
        let mut said = String::new();
        loop {
            let before = said.len();
            assert!(self.said.read_line(&mut said).unwrap() > 0, "the shell has ended: {said}");
            if let Some(code) = said[before..].trim().strip_prefix("end ") {
                let done = code == "0";
                said.truncate(before);
                return (done, said);
            }
        }
    }

    fn does(&mut self, line: &str) -> String {
        let (done, said) = self.tries(line);
        assert!(done, "{line}: {said}");
        said
    }

    fn until(&mut self, what: &str, line: &str) {
        eventually(what, || holds(self.tries(line).0));
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // The end of its input ends the shell, and with PID 1 all others of its namespace.
        drop(self.lines.take());
        let _ = self.shell.wait();
    }
}

const DOCKERD: &str = "dockerd --data-root /run/docker-data --exec-root /run/docker-exec -p /run/docker.pid \
    -H unix:///run/docker.sock --storage-driver vfs >/run/dockerd.log 2>&1 & dockerd=$!";

fn reaches_outside(d: &TestDaemon) -> bool {
    let script = "if exec 3<>/dev/tcp/8.8.8.8/8080; then echo reached; fi";
    d.run(["--network", "bridge", "bash", "-c", script]).text().contains("reached")
}

#[test]
fn docker_and_firewalld_of_debian_are_lived_with() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let tree = match unpacked(&["docker.io", "firewalld", "iptables", "dbus"]) {
        Ok(tree) => tree,
        Err(why) => skip!(why),
    };
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let mut installed = Installed::on(&host, &tree);
    let lives_with_both = || {
        let d = TestDaemon::start();
        assert!(reaches_outside(&d));
        for _ in 0..2 {
            installed.does(DOCKERD);
            installed.until("docker has its chains", "iptables -S DOCKER-USER");
            assert!(installed.does("iptables -S FORWARD").starts_with("-P FORWARD DROP"));
            let admitted = "[ $(iptables -S DOCKER-USER | grep -c joblet0) = 2 ]";
            installed.until("docker's chain admits joblet0", admitted);
            assert!(reaches_outside(&d));
            installed.does("kill $dockerd; wait $dockerd; true");
        }
        installed.does("iptables -P FORWARD ACCEPT; iptables -F; iptables -X");
        let bus = d.dir().join("bus.conf");
        fs::write(&bus, BUS).unwrap();
        installed.does(&format!(
            "dbus-daemon --config-file={} --nofork --nopidfile >/dev/null 2>&1 &",
            bus.display()
        ));
        installed.until("there is a bus", "[ -S /run/dbus/system_bus_socket ]");
        installed.does("firewalld --nofork --nopid >/run/firewalld.log 2>&1 &");
        installed.until("firewalld runs", "firewall-cmd --state");
        assert!(!reaches_outside(&d), "firewalld lets pass what has no zone");
        let doctor = format!(
            "mkdir -p /run/firewalld; {JOBLET} doctor --config {} | grep network.firewall",
            d.config().display()
        );
        let said = installed.does(&doctor);
        let (_, remedy) = said.trim().split_once(" -> ").unwrap_or_else(|| panic!("{said}"));
        installed.does(remedy);
        installed.until("joblet0 is in a zone", "firewall-cmd --zone=trusted --query-interface=joblet0");
        eventually("jobs reach the outside", || holds(reaches_outside(&d)));
        let said = installed.does(&doctor);
        assert!(said.starts_with("ok") && said.contains("has a zone"), "{said}");
    };
    host.run(|| with_network("bridge", lives_with_both));
}
