//! Real programs in jobs with a network: they find servers by name, check their certificates, and install what they get.

use super::install::{Need, install};
use super::internet::{World, with_world};
use crate::helper::network::has_program;
use crate::helper::skip::{self, is_root};
use crate::helper::wait::{eventually, holds};

/// Programs that every world needs.
const WORLD: [Need; 6] = [
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("git", "git"),
    ("/usr/bin/python3", "python3"),
    ("dpkg-deb", "dpkg"),
    ("curl", "curl"),
];

/// One program, the list with which it gets along, and what it prints.
struct Fetch {
    needs: &'static [Need],
    list: &'static [&'static str],
    memory: u32,
    script: &'static str,
    prints: &'static [&'static str],
}

/// Runs the script in `bridge` without a list, and in `isolated` with its list.
fn fetch(test: &str, fetch: &Fetch) {
    if !is_root() {
        return skip::record(test, "needs root");
    }
    if let Err(reason) = install(&[&WORLD, fetch.needs].concat()) {
        return skip::record(test, &reason);
    }
    with_world(|world| {
        for (network, list) in [("bridge", &[][..]), ("isolated", fetch.list)] {
            let out = world.run(network, list, fetch.memory, fetch.script);
            assert_eq!(out.code, 0, "{network}: {}\n{}", out.text(), out.stderr);
            for line in fetch.prints {
                assert!(
                    out.text().lines().any(|printed| printed == *line),
                    "{network}: {line} in {}",
                    out.text()
                );
            }
        }
    });
}

macro_rules! fetches {
    ($module:ident: $($name:ident: $memory:literal MB, needs $needs:tt list $list:tt prints $prints:tt $script:literal;)*) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    super::fetch(test, &super::Fetch {
                        needs: &$needs, list: &$list, memory: $memory, script: $script, prints: &$prints,
                    });
                }
            )*
        }
    };
}

fetches! { short:
    curl: 128 MB, needs [] list ["www.test"] prints ["hello from www.test", "code 60", "2097152", "name 6"] r#"
curl -sS http://www.test/hello; curl -sS --cacert ca.pem https://www.test/hello
curl -sS https://www.test/hello >/dev/null 2>&1 || echo "code $?"
curl -sS --cacert ca.pem https://www.test/large | wc -c
curl -sS http://nothing.example/ >/dev/null 2>&1 || echo "name $?"
"#;
    git: 256 MB, needs [] list ["git.test:443"] prints ["hello from a repository", "first of a test"] r#"
export GIT_SSL_CAINFO=$PWD/ca.pem HOME=$PWD
git clone -q https://git.test/hello.git; cat hello/hello; git -C hello log --format=%s; git -C hello fetch -q
"#;
    pip: 512 MB, needs [("/usr/lib/python3.11/ensurepip", "python3-venv")] list ["pypi.test:443"]
    prints ["hello from a wheel", "hello==1.0"] r#"
/usr/bin/python3 -m venv env
env/bin/pip install -q --disable-pip-version-check --cert ca.pem --index-url https://pypi.test/simple hello
env/bin/python -c 'import hello; hello.main()'; env/bin/pip freeze
"#;
}

fetches! { long:
    npm: 768 MB, needs [("/usr/bin/npm", "npm")] list ["registry.test:443"] prints ["hello from npm"] r#"
export HOME=$PWD
mkdir app; cd app; echo '{"name":"app","version":"1.0.0"}' >package.json
npm install --silent --no-audit --no-fund --no-update-notifier --cafile "$HOME/ca.pem" --registry https://registry.test/ hello
node -e 'console.log(require("hello"))'
"#;
    cargo: 1024 MB, needs [("/usr/bin/cargo", "cargo"), ("gcc", "gcc")] list ["git.test:443", "crates.test:443"]
    prints ["hello from a crate"] r#"
export CARGO_HTTP_CAINFO=$PWD/ca.pem CARGO_HOME=$PWD/home HOME=$PWD
mkdir -p app/src app/.cargo; cd app
printf '[registries.test]\nindex = "sparse+https://crates.test/"\n' >.cargo/config.toml
# Registries of this kind came with 1.68.
case $(/usr/bin/cargo -V | cut -d. -f2) in
    [0-9]|[1-5][0-9]|6[0-7]) rm .cargo/config.toml; from='{ git = "https://git.test/crate.git" }' ;;
    *) from='{ version = "1", registry = "test" }' ;;
esac
printf '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2018"\n[dependencies]\nhello = %s\n' "$from" >Cargo.toml
echo 'fn main() { println!("{}", hello::hello()) }' >src/main.rs
PATH=/usr/bin:/bin /usr/bin/cargo run -q
"#;
    apt: 256 MB, needs [("/usr/bin/apt-get", "apt")] list ["deb.test:80"] prints ["hello from a package"] r#"
mkdir -p apt/lists/partial apt/cache/archives/partial apt/etc/apt.conf.d apt/etc/preferences.d; : >apt/status
echo 'deb [trusted=yes] http://deb.test/ ./' >apt/sources.list
cat >apt/conf <<EOF
Dir::Etc "$PWD/apt/etc"; Dir::Etc::sourcelist "$PWD/apt/sources.list"; Dir::State "$PWD/apt"; Dir::State::status "$PWD/apt/status";
Dir::Cache "$PWD/apt/cache"; Dir::Log "$PWD/apt"; APT::Sandbox::User "root";
EOF
export APT_CONFIG=$PWD/apt/conf
apt-get update -q; apt-get download -q demo; dpkg-deb -x demo_1.0_all.deb root; cat root/usr/share/demo/hello
"#;
}

#[test]
fn published_web_server_is_fetched_from_outside() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    needs!(install(&WORLD).is_ok(), "the programs of the test cannot be installed");
    with_world(|world| {
        let World { d, outside, .. } = world;
        let script = "echo published >page; exec python3 -m http.server 80";
        let id = d.submit(["--publish", "203.0.113.2:8080:80", "sh", "-c", script]);
        let get = || outside.shell("curl -sS -m 60 http://203.0.113.2:8080/page 2>&1 || true");
        eventually("the page is there", || holds(get() == "published\n"));
        // Side by side, and from the job's network by its name.
        let all =
            outside.shell("for i in $(seq 20); do curl -sS -m 60 http://203.0.113.2:8080/page & done; wait");
        assert_eq!(all, "published\n".repeat(20));
        let by_name = world.run("bridge", &[], 128, &format!("curl -sS http://job-{}/page", &id[..8]));
        assert_eq!(by_name.text(), "published\n", "{}", by_name.stderr);
        d.rnx(["job", "stop", &id]).ok();
        assert!(!get().contains("published"), "{}", get());
    });
}

/// A server of PostgreSQL, and a client of it, in two jobs of a network of their own.
mod long_databases {
    use super::super::install::install;
    use super::super::internet::{World, with_world};
    use crate::helper::skip::is_root;
    use crate::helper::wait::{eventually, holds};

    const SERVE: &str = r#"
exec 2>&1; set -eu; PATH=/usr/lib/postgresql/15/bin:$PATH
initdb -D db -U me -A trust --no-instructions >/dev/null; echo 'host all all 10.50.0.0/16 trust' >>db/pg_hba.conf
exec postgres -D db -k /tmp -c listen_addresses='*'
"#;

    #[test]
    fn postgres_serves_its_client_in_another_job() {
        needs!(is_root(), "needs root");
        let packages = [("psql", "postgresql"), ("/usr/lib/postgresql/15/bin/initdb", "postgresql-15")];
        let installed = install(&[&super::WORLD[..], &packages].concat());
        needs!(installed.is_ok(), "PostgreSQL cannot be installed");
        with_world(|World { d, .. }| {
            d.rnx(["network", "create", "lab", "--cidr", "10.50.0.0/16", "--internal"]).ok();
            let flags = ["--network=lab", "--name=db", "--user=job", "--max-memory=768"];
            let id = d.submit(flags.iter().copied().chain(["sh", "-c", SERVE]));
            eventually("the server is ready", || {
                let log = d.rnx(["job", "log", "--no-follow", &id]).text();
                assert_eq!(d.status(&id)["status"], "RUNNING", "{log}");
                holds(log.contains("ready to accept connections"))
            });
            let query = "create table t as select generate_series(1,1000) n";
            let ask = [
                "psql",
                "-h",
                "db",
                "-U",
                "me",
                "-At",
                "postgres",
                "-c",
                query,
                "-c",
                "select sum(n) from t",
            ];
            let out = d.run(["--network=lab"].iter().chain(&ask));
            assert_eq!(out.ok(), "SELECT 1000\n500500\n");
            // A job of another network does not even find it.
            let out = d.run(["--network=bridge"].iter().chain(&ask));
            assert!(out.code == 2 && out.stderr.contains("could not translate host name"), "{}", out.stderr);
            d.rnx(["job", "stop", &id]).ok();
        });
    }
}
