//! Egress lists with names, under a real daemon whose host is a namespace of the test's own: what is found, what is refused
//! and who hears of it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::name_server::{NameServer, in_host};
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// The name server's address, and that of `good.test`.
const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// A program that looks names up and connects. `name=NAME` prints the code of the answer with the number of addresses and
/// the extended error; `NAME:PORT` prints whether a connection is made.
const TRY: &str = r"
import socket, struct, sys
def ask(name):
    labels = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.')) + b'\0'
    edns = b'\0' + struct.pack('>HHIH', 41, 1232, 0, 0)
    question = struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 1) + labels + struct.pack('>HH', 1, 1)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(60)
    s.connect(('169.254.1.53', 53))
    s.send(question + edns)
    answer = s.recv(4096)
    code, answers = answer[3] & 15, struct.unpack('>H', answer[6:8])[0]
    # Option 15 of EDNS: two bytes of its length, then the code of the extended error.
    at = answer.find(b'\0\x0f', answer.find(b'\0\0\x29', len(question)))
    extended = struct.unpack('>H', answer[at + 4:at + 6])[0] if code and at > 0 else None
    return f'code {code} addresses {answers} extended {extended}'
for word in sys.argv[1:]:
    if word.startswith('name='):
        print(word[5:], ask(word[5:]), flush=True)
        continue
    name, port = word.split(':')
    try:
        socket.create_connection((name, int(port)), 60).close()
        print(word, 'reached', flush=True)
    except socket.gaierror as why:
        print(word, 'no name' if why.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else why, flush=True)
    except OSError as why:
        print(word, why.strerror, flush=True)
";

/// The results of these tries in a job with this list.
fn tries(d: &TestDaemon, network: &str, list: &str, words: &[&str]) -> (String, Vec<String>) {
    let flags = ["job", "run", "-q", "--network", network, "--egress", list, "python3", "-c", TRY];
    let out = d.rnx(flags.iter().chain(words));
    out.ok();
    let id = out.id();
    d.until_status(&id, "COMPLETED");
    let log = d.rnx(["job", "log", &id]).ok();
    (id, log.lines().map(str::to_owned).collect())
}

#[test]
fn listed_names_are_found_and_reached_and_no_others() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    outside.shell("ip address add 9.9.9.9/32 dev lo");
    let _served = outside.run(|| [443, 8080].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap()));
    let server = NameServer::start(&outside, SERVER, SERVER);
    in_host(&host, SERVER, |_| {
        let mut d = TestDaemon::start();
        let words = [
            "name=good.test",
            "name=bad.test",
            "good.test:8080",
            "good.test:443",
            "deep.a.ok.test:443",
            "a.ok.test:8080",
            "ok.test:443",
            "bad.test:443",
            "203.0.113.1:443",
        ];
        let (id, said) = tries(&d, "isolated", "good.test,*.ok.test:443", &words);
        let expected = [
            "good.test code 0 addresses 1 extended None",
            // NXDOMAIN, and "blocked" (RFC 8914).
            "bad.test code 3 addresses 0 extended 15",
            "good.test:8080 reached",
            "good.test:443 reached",
            "deep.a.ok.test:443 reached",
            "a.ok.test:8080 No route to host",
            "ok.test:443 no name",
            "bad.test:443 no name",
            "203.0.113.1:443 No route to host",
        ];
        assert_eq!(said, expected);
        let heard = server.heard();
        let listed = |asked: &String| asked.starts_with("good.test ") || asked.contains(".ok.test ");
        assert!(heard.iter().all(listed) && !heard.is_empty(), "what is not listed left the host: {heard:?}");
        // All of it is reported afterwards, by name where the request named it.
        let told = d.rnx(["--json", "job", "denials", &id]).json();
        let rows = told["denials"].as_array().unwrap();
        let row =
            |key: &str, value: &str| rows.iter().find(|row| row[key] == value).cloned().unwrap_or_default();
        let bad = row("name", "bad.test");
        assert!(bad["count"].as_u64().is_some_and(|count| count >= 2), "{told}");
        assert_eq!((&bad["allow"], &bad["port"]), (&"--egress bad.test".into(), &53.into()), "{told}");
        assert!(
            row("name", "ok.test")["count"].is_u64() && row("address", "9.9.9.9")["port"] == 8080,
            "{told}"
        );
        assert!(row("address", "203.0.113.1")["port"] == 443 && row("name", "good.test").is_null(), "{told}");
        let counted: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
        assert_eq!(d.status(&id)["denials"].as_u64(), Some(counted), "{told}");
        let table = d.rnx(["job", "denials", &id]).ok();
        assert!(table.contains("bad.test") && table.contains("not in the egress list"), "{table}");
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn no_name_carries_anything_out_of_a_job_with_a_list() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    outside.shell("ip address add 9.9.9.9/32 dev lo");
    host.shell("if [ -e /proc/sys/net/ipv6 ]; then echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; fi");
    // Everything that comes from the host but connections to what is listed, and questions to the name server, which hears
    // them itself.
    outside.shell(
        "nft add table inet judge
         nft 'add chain inet judge seen { type filter hook prerouting priority -500; }'
         nft add rule inet judge seen iifname != down0 accept
         nft add rule inet judge seen ip daddr 8.8.8.8 tcp dport 8080 accept
         nft add rule inet judge seen ip daddr 8.8.8.8 udp dport 53 accept
         nft add rule inet judge seen counter",
    );
    let seen = || outside.shell("nft list chain inet judge seen");
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let server = NameServer::start(&outside, SERVER, SERVER);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/exfiltrate.py");
    in_host(&host, SERVER, |_| {
        let mut d = TestDaemon::start();
        let upload = format!("--upload={}", program.display());
        let script =
            "getent hosts good.test; python3 exfiltrate.py 8.8.8.8 8080 9.9.9.9; getent hosts good.test";
        let job = |list: &[&str]| {
            let flags = ["--network", "isolated", &upload].into_iter().chain(list.iter().copied());
            d.run(flags.chain(["bash", "-c", script])).text()
        };
        let out = job(&["--egress", "good.test:8080,8.8.8.8:8080,listed.example"]);
        assert!(out.lines().count() >= 50 && out.matches("good.test").count() == 2, "{out}");
        assert!(seen().contains("counter packets 0 "), "{}\n{out}", seen());
        let heard = server.heard();
        assert!(heard.iter().all(|asked| asked.starts_with("good.test ")) && !heard.is_empty(), "{heard:?}");
        // Without a list the same tries are heard.
        job(&[]);
        eventually("the name server hears what is not listed", || {
            holds(server.heard().iter().any(|asked| asked.contains("evil.example")))
        });
        d.keep_descriptors();
        d.stop();
    });
}

/// Prints its own line of /etc/hosts and what it finds, then waits.
fn resident(d: &TestDaemon, network: &str, list: &[&str]) -> (String, String) {
    let script = format!(
        "grep job- /etc/hosts; getent hosts $(hostname); python3 -c \"$TRY\" good.test:8080 bad.test:8080; echo done; {}",
        gate::wait_for("go")
    );
    let variable = format!("TRY={TRY}");
    let flags = ["--network", network, "--name", "resident", "-e", &variable].into_iter();
    let id = d.submit(flags.chain(list.iter().copied()).chain(["bash", "-c", &script]));
    let log = eventually("the job has looked around", || {
        let log = d.rnx(["job", "log", "--no-follow", &id]).text();
        log.contains("done\n").then_some(log)
    });
    (id, log)
}

#[test]
fn warm_sandbox_of_another_network_has_its_new_names_and_list() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let _server = NameServer::start(&outside, SERVER, SERVER);
    in_host(&host, SERVER, |_| {
        let node = Node::set_up();
        node.set("logging.level", "DEBUG");
        let d = node.start();
        d.rnx(["network", "create", "lab", "--cidr", "10.50.0.0/16"]).ok();
        let finds = |network: &str, name: &str| {
            let script = format!("getent hosts {name} || echo nothing");
            d.run(["--network", network, "bash", "-c", &script]).ok().trim().to_owned()
        };
        // Jobs of bridge leave warm sandboxes that are wired for it.
        let warm = |id: &str| {
            let log = d.log();
            let accepted = log.lines().find(|line| line.contains("job accepted") && line.contains(id));
            accepted.is_some_and(|line| line.contains("starts_warm"))
        };
        for (network, list, range) in [
            ("lab", &[][..], "10.50."),
            ("isolated", &["--egress", "good.test:8080"][..], "172.21."),
            ("lab", &["--egress", "good.test:8080"], "10.50."),
        ] {
            let (id, log) = eventually("a job of another network gets a warm sandbox", || {
                eventually("sandboxes are warm", || {
                    let id = d.submit(["--network", "bridge", "true"]);
                    d.until_status(&id, "COMPLETED");
                    holds(warm(&id))
                });
                let (id, log) = resident(&d, network, list);
                if warm(&id) {
                    return Some((id, log));
                }
                gate::open(&id, "go");
                d.until_status(&id, "COMPLETED");
                None
            });
            let own = d.status(&id)["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
            assert!(own.starts_with(range), "{network}: {own}");
            let name = format!("job-{}", &id[..8]);
            assert_eq!(log.matches(&format!("{own}\t{name}")).count(), 1, "{network}: {log}");
            assert!(log.contains("good.test:8080 reached"), "{network}: {log}");
            let other = if list.is_empty() { "bad.test:8080 reached" } else { "bad.test:8080 no name" };
            assert!(log.contains(other), "{network}: {log}");
            if network == "lab" {
                assert!(finds("lab", "resident").starts_with(&own), "{}", finds("lab", "resident"));
                assert!(finds("lab", &own).contains(&format!("{name}.joblet")), "{}", finds("lab", &own));
            }
            // Nobody of the network that the sandbox was wired for before finds it.
            for asked in ["resident", &name, &own] {
                assert_eq!(finds("bridge", asked), "nothing", "{network}: {asked}");
            }
            gate::open(&id, "go");
            d.until_status(&id, "COMPLETED");
        }
        let mut d = d;
        d.keep_descriptors();
        d.stop();
    });
}
