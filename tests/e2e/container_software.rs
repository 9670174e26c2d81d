//! Software as Debian ships it, in a container that writes its root: apt with the scripts of its packages, accounts, owners, and a
//! database server that is started as a user of its own.

use std::net::TcpStream;
use std::process::Command;

use joblet::runtime::{LayerDigest, RuntimeId};

use super::runtimes::store;
use crate::helper::daemon::Node;
use crate::helper::gate;
use crate::helper::packages;
use crate::helper::profile::with_containers;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// Makes an image of a root. Its files are copied with their owners.
fn install(node: &Node, root: &std::path::Path) {
    let store = store(node.dir());
    let digest: LayerDigest = format!("sha256:{}", "d".repeat(64)).parse().unwrap();
    let hold = store.hold_layers(std::slice::from_ref(&digest));
    let layer = store.stage().unwrap();
    let copied = Command::new("cp").arg("-a").arg(root.join(".")).arg(layer.path()).status().unwrap();
    assert!(copied.success());
    store.publish_layer(layer, &digest).unwrap();
    let id: RuntimeId = "debian@1.0.0".parse().unwrap();
    let staging = store.stage().unwrap();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let text = format!(
        "name: debian\nversion: 1.0.0\nlayers: ['{digest}']\n\
         image: {{cmd: [/bin/bash], env: ['{path}', DEBIAN_FRONTEND=noninteractive]}}\n"
    );
    std::fs::write(staging.path().join("runtime.yml"), text).unwrap();
    store.publish(staging, &id, false).unwrap();
    drop(hold);
}

/// Installs the server, whose scripts make its user and its first cluster of databases.
const INSTALL: &str = "set -e; ldconfig
    apt-get update >/work/log 2>&1
    apt-get -o Dpkg::Use-Pty=0 install -y --no-install-recommends postgresql-15 >>/work/log 2>&1 || { tail -n 20 /work/log; exit 1; }
    dpkg -s postgresql-15 | grep ^Status
    stat -c '%U:%G %a' /var/lib/postgresql/15/main
    useradd --create-home --shell /bin/bash alice; id -G alice >/dev/null
    su alice -c 'id -un; touch ~/mine; ! touch /etc/no 2>/dev/null'
    chown -R postgres: /home/alice; stat -c %U /home/alice/mine
    echo alice:secret | chpasswd; passwd --status alice | cut -d' ' -f2
    userdel alice; ! getent passwd alice";

/// Serves at a port that the host's own server has not.
const SERVE: &str = "sed -i 's/^port = .*/port = 54917/' /etc/postgresql/15/main/postgresql.conf
    su postgres -c 'pg_ctlcluster 15 main start' && su postgres -c 'createdb shop'
    su postgres -c \"psql -qAt shop -c 'create table t (n int); insert into t values (41), (1); select sum(n) from t'\"
    su postgres -c 'psql -Atc \"select current_user\" -h /var/run/postgresql -p 54917 shop'
    echo serving";

#[test]
fn debian_installs_and_runs_a_database_in_a_container() {
    needs!(is_root(), "needs root");
    let tree = match packages::debian() {
        Ok(tree) => tree,
        Err(why) => skip!(why),
    };
    let node = with_containers(Node::set_up);
    install(&node, &tree);
    let d = node.start();
    let script = format!(
        "{INSTALL}\n{SERVE}\n{}; su postgres -c 'pg_ctlcluster 15 main stop -m fast'; echo stopped",
        gate::wait_for("end")
    );
    let flags =
        ["--runtime=debian", "--profile=container", "--writable", "--max-memory=2048", "--max-cpu=400"];
    let id = d.submit(flags.into_iter().chain(["bash", "-c", &script]));
    let log = || d.rnx(["job", "log", "--no-follow", &id]).text();
    eventually("the database serves, or the job has ended", || {
        holds(log().contains("serving\n") || d.status(&id)["status"] != "RUNNING")
    });
    let said = log();
    let wanted = "Status: install ok installed\npostgres:postgres 700\nalice\npostgres\nP\n42\n";
    assert!(said.starts_with(wanted) && said.ends_with("postgres\nserving\n"), "{said}");
    // Its port is in its own network, its users are nobody on the host, and its walls stand.
    assert!(TcpStream::connect("127.0.0.1:54917").is_err());
    let layers = d.rnx(["--json", "job", "status", "--security", &id]).json();
    let broken: Vec<_> =
        layers.as_array().unwrap().iter().filter(|l| l["ok"] != true && l["unenforced"] != true).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    assert!(log().ends_with("serving\nstopped\n"), "{}", log());
    // The next job has the image as it was.
    let next = d.run([
        "--runtime=debian",
        "--profile=container",
        "sh",
        "-c",
        "dpkg -s postgresql-15 2>&1; ls /home",
    ]);
    assert!(next.text().contains("is not installed"), "{}", next.text());
    d.rnx(["runtime", "remove", "debian"]).ok();
    d.stop();
}
